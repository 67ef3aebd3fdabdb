"""What a training has led to: in a notebook, or read from the directory of a run."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from microgpt.checkpoint.format import Checkpoint, CheckpointError, load, save
from microgpt.checkpoint.newest import load_newest
from microgpt.loss_curve import in_words, loss_curve
from microgpt.parameters import StateDict
from microgpt.sampling import generate
from microgpt.training import Validation


@dataclass(frozen=True, repr=False)
class TrainingResult:
    """A finished training: ``checkpoint`` as it would be saved, and the loss of every step.

    ``validations``: after how many steps the held-out documents had which loss. ``seconds``: how
    long the steps took, virtual ones in a simulation. Of a run with processes, real or simulated:
    the bytes that its coordinator sent and received for the steps, and its ``events``, as plain
    maps in the form of ``events.jsonl`` (docs/events.md). These make no difference to whether two
    results are equal.
    """

    checkpoint: Checkpoint
    losses: tuple[float, ...]
    validations: tuple[Validation, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    bytes_sent: int = field(default=0, compare=False)
    bytes_received: int = field(default=0, compare=False)
    events: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        return f"TrainingResult({self._summary()})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentence of ``repr`` and the losses as a curve."""
        curve = loss_curve(self.losses, self.validations)
        return f"<div><p>{escape(self._summary())}</p>{curve}</div>"

    def _summary(self) -> str:
        words = in_words(self.losses, self.validations)
        name = self.checkpoint.data.get("name")
        return f"{words}, {self.checkpoint.num_params:,} parameters, data {name!r:.80}"

    @property
    def state_dict(self) -> StateDict:
        """The weights as ``{name: rows of floats}``: ``wte``, ``wpe``, ``lm_head``, ..."""
        return self.checkpoint.state_dict()

    def sample(
        self,
        num_samples: int = 20,
        *,
        temperature: float = 0.5,
        prompt: str = "",
        seed: int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> list[str]:
        """Invented documents; see ``microgpt.sample``."""
        return sample(
            self.checkpoint,
            num_samples,
            temperature=temperature,
            prompt=prompt,
            seed=seed,
            top_k=top_k,
            top_p=top_p,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint for ``scripts/sample.py``. Raises CheckpointError."""
        save(path, self.checkpoint)


def sample(
    source: Checkpoint | str | os.PathLike[str],
    num_samples: int = 20,
    *,
    temperature: float = 0.5,
    prompt: str = "",
    seed: int | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[str]:
    """Invented documents from a checkpoint, its file, or the newest one of a run directory.

    Without ``seed`` the training's random generator goes on, as microgpt.py does it: the same call
    gives the same documents. ``top_k`` and ``top_p`` leave out unlikely letters (see
    ``microgpt.sampling.candidates``). For a state dict of your own use
    ``microgpt.sampling.generate``.
    Raises CheckpointError for an unusable file, ValueError for a bad temperature or prompt.
    """
    checkpoint = source if isinstance(source, Checkpoint) else load_newest(source)
    rng = checkpoint.rng() if seed is None else random.Random(seed)
    return list(
        generate(
            checkpoint.state_dict(),
            checkpoint.training.model,
            checkpoint.tokenizer,
            rng,
            num_samples=num_samples,
            temperature=temperature,
            prompt=prompt,
            top_k=top_k,
            top_p=top_p,
        )
    )


def load_run(run_dir: str | os.PathLike[str]) -> TrainingResult:
    """What a run of ``scripts/train.py`` has reached: its newest checkpoint and all losses so far.

    Raises CheckpointError if the directory holds no run.
    """
    directory = Path(run_dir)
    checkpoint = load(directory / "checkpoint.msgpack")
    try:
        done = [
            line for line in _lines(directory / "metrics.jsonl") if line["step"] <= checkpoint.step
        ]
        losses = tuple(float(record["loss"]) for record in done)
        validations = tuple(
            Validation(int(record["step"]), float(record["validation_loss"]))
            for record in done
            if "validation_loss" in record
        )
        seconds = sum(float(record.get("seconds", 0.0)) for record in done)
        sent, received = (
            sum(int(record.get(f"bytes_{way}", 0)) for record in done)
            for way in ("sent", "received")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the metrics of {directory} cannot be read: {error}") from error
    try:
        events = tuple(_lines(directory / "events.jsonl"))
    except (OSError, ValueError):  # nothing depends on them
        events = ()
    return TrainingResult(checkpoint, losses, validations, seconds, sent, received, events)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
