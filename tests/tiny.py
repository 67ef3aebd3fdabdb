"""A small checkpoint on disk without a training: what the tests of the scripts look at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint
from microgpt.checkpoint.replicas import Distributed, SavedReplica, SavedTask
from microgpt.config import TrainingConfig
from microgpt.data.dataset import load_dataset
from microgpt.data.documents import from_documents
from microgpt.distribution import Distribution
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import init_parameters, to_bytes
from microgpt.tokenizer import Tokenizer
from tests.processes import NAMES


def make_tiny(documents: Sequence[str] = NAMES, n_layer: int = 1) -> Checkpoint:
    """A model with an opinion of its own: large random weights, as if after step 5 of 10."""
    tokenizer = Tokenizer.from_documents(documents)
    model = GPTConfig(tokenizer.vocab_size, n_layer, n_embd=4, n_head=2, block_size=4)
    rng = random.Random(42)
    weights, m, v = (init_parameters(parameter_shapes(model), rng) for _ in range(3))
    version, words, gauss_next = rng.getstate()
    return Checkpoint(
        TrainingConfig(model, steps=10, batch_size=4),
        tokenizer,
        from_documents(documents).fingerprint(),
        "tiny",
        5,
        to_bytes([5 * x for x in weights]),
        to_bytes(m),
        to_bytes([x * x for x in v]),
        (version, words, gauss_next),
        (3.25, 3.125, 3.0, 2.875, 2.8125),
        next_document=20,
    )


def save_tiny(place: Path) -> Path:
    """Write it as a run that trained on a file beside it; returns the checkpoint's path."""
    data = place / "names.txt"
    data.write_text("\n".join(NAMES) + "\n")
    path = place / "checkpoint.msgpack"
    checkpoint_format.save(path, replace(make_tiny(), data=load_dataset(str(data)).fingerprint()))
    return path


def make_distributed() -> Checkpoint:
    """The same of a run with replicas: an outer optimizer, residuals, tasks to be done again."""
    made = make_tiny()
    half, size = len(made.weights) // 16 * 8, len(made.weights)
    past = {3: made.adam_m, 4: made.weights}
    tasks = tuple(SavedTask(version, 4 * version, 2, 1, 0.5) for version in past)
    replicas = tuple(
        SavedReplica(
            replica,
            replica,
            {"residual": made.adam_m[half:] + made.adam_v[:half], "inner.m": made.adam_v[:size]},
            tasks[replica:],
        )
        for replica in range(3)
    )
    return replace(
        made,
        training=replace(
            made.training,
            strategy="diloco",
            strategy_options={"steps": 1},
            distribution=Distribution(3, compress="topk:0.5", outer_optimizer="momentum"),
        ),
        distributed=Distributed({"outer.momentum": made.adam_m, "hex": b""}, replicas, past),
    )
