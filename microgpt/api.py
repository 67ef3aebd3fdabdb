"""Training and sampling from Python, for notebooks: one process, the same bits as any cluster.

``train`` runs the very arithmetic that the coordinator and its workers share, with one engine in
this process; ``load_run`` reads what ``scripts/train.py`` has written.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from microgpt.checkpoint.format import Checkpoint, CheckpointError, load, save
from microgpt.checkpoint.newest import load_newest
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset
from microgpt.data.documents import Dataset, from_documents
from microgpt.engine import ENGINES, make_engine
from microgpt.loss_curve import in_words, loss_curve
from microgpt.model import GPTConfig
from microgpt.optim.adam import AdamConfig
from microgpt.parameters import StateDict
from microgpt.sampling import generate
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy
from microgpt.strategies.parts import check_parts, make_distribution
from microgpt.strategies.registry import DEFAULT, load_strategy, name_of, options_of
from microgpt.support.progress import Progress
from microgpt.training import Validation, initial_state, to_checkpoint


@dataclass(frozen=True, repr=False)
class TrainingResult:
    """A finished training: ``checkpoint`` as it would be saved, and the loss of every step.

    ``validations``: after how many steps the held-out documents had which loss.
    """

    checkpoint: Checkpoint
    losses: tuple[float, ...]
    validations: tuple[Validation, ...] = ()

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


def train(
    data: str | os.PathLike[str] | Iterable[str] = "names",
    *,
    steps: int = 1000,
    batch_size: int = 32,
    seed: int = 42,
    n_layer: int = 1,
    n_embd: int = 16,
    n_head: int = 4,
    block_size: int = 16,
    learning_rate: float = 0.01,
    beta1: float = 0.85,
    beta2: float = 0.99,
    eps: float = 1e-8,
    validation_fraction: float = 0.0,
    eval_every: int = 100,
    engine: str = ENGINES[0],
    strategy: str | Strategy = DEFAULT,
    strategy_options: Mapping[str, Any] | None = None,
    replicas: int = 0,
    aggregate: str = "mean",
    compress: str = "",
    error_feedback: bool | None = None,
    inner_optimizer: str = "",
    outer_optimizer: str = "",
    shard_by: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train in this process and return the outcome.

    ``data``: what ``--data`` takes (names, embedded, a path, a URL), a ``Path``, or documents.
    ``validation_fraction`` of the documents is not trained on; their loss is computed after every
    ``eval_every`` steps and after the last. ``strategy`` says how results become updates: a name,
    ``FILE.py:Class`` (with ``strategy_options``), or an object of your own (see
    ``microgpt.strategies.base``). ``replicas``, ``aggregate``, ``compress``, ``error_feedback``,
    ``shard_by`` and the optimizers are what the flags of ``scripts/train.py`` with these names are.
    ``progress`` is called after each step with its number, from 1, and its loss in nats per token.
    The result has the bits of ``scripts/train.py`` with the same settings. Raises ValueError for
    settings that cannot be, DatasetError for unusable data, StrategyError for an unusable strategy,
    ArithmeticError if training diverges (NonFiniteError where a document makes it).
    """
    if eval_every < 1:
        raise ValueError(f"eval_every must be at least 1, not {eval_every}")
    if isinstance(strategy, str):
        strategy = load_strategy(strategy, strategy_options)
    elif strategy_options:
        raise ValueError("strategy_options are for a strategy given by its name")
    dataset = _load(data)
    progress_of_encoding = Progress("encoding the documents")
    corpus = Corpus(dataset.documents, seed, validation_fraction, progress_of_encoding)
    model = GPTConfig(corpus.tokenizer.vocab_size, n_layer, n_embd, n_head, block_size)
    adam = AdamConfig(learning_rate, beta1, beta2, eps)
    config = TrainingConfig(
        model, adam, steps, batch_size, seed, validation_fraction,
        name_of(strategy), options_of(strategy),
        make_distribution(
            replicas, aggregate, compress, error_feedback, inner_optimizer, outer_optimizer,
            shard_by,
        ),
    )  # fmt: skip
    check_parts(config)
    corpus.divide(config)
    return _run(strategy, config, dataset, corpus, eval_every, engine, progress)


def _load(data: str | os.PathLike[str] | Iterable[str]) -> Dataset:
    if isinstance(data, str):
        return load_dataset(data)
    if isinstance(data, os.PathLike):
        return load_dataset(os.path.join(".", data))  # a file, also if its name is "names"
    return from_documents(data)


def _run(
    strategy: Strategy,
    config: TrainingConfig,
    dataset: Dataset,
    corpus: Corpus,
    eval_every: int,
    engine_name: str,
    progress: Callable[[int, float], None] | None,
) -> TrainingResult:
    engine = make_engine(engine_name, config.model)
    state = initial_state(config, corpus)
    losses: list[float] = []
    validations: list[Validation] = []
    states = serial.run(
        strategy, config, corpus, state, engine,
        evaluates=lambda step: step % eval_every == 0 or step == config.steps,
    )  # fmt: skip
    for state in states:
        losses.append(state.losses[-1])
        if state.validation is not None and state.validation.step == state.step:
            validations.append(state.validation)
        if progress is not None:
            progress(state.step, losses[-1])
    run = f"in-process-{config.seed}"
    fingerprint = dataset.fingerprint()
    checkpoint = to_checkpoint(config, state, corpus.tokenizer, fingerprint, run)
    return TrainingResult(checkpoint, tuple(losses), tuple(validations))


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
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        done = [record for record in records if record["step"] <= checkpoint.step]
        losses = tuple(float(record["loss"]) for record in done)
        validations = tuple(
            Validation(int(record["step"]), float(record["validation_loss"]))
            for record in done
            if "validation_loss" in record
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the metrics of {directory} cannot be read: {error}") from error
    return TrainingResult(checkpoint, losses, validations)
