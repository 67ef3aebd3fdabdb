"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from microgpt.checkpoint.format import Checkpoint
from microgpt.config import TrainingConfig
from microgpt.engine.scalar import ScalarEngine
from microgpt.model import GPTConfig
from microgpt.strategies import serial
from microgpt.strategies.sync import Sync
from microgpt.training import Corpus, initial_state, to_checkpoint
from tests.processes import NAMES, TINY, Lab

Reference = Callable[..., Checkpoint]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes of this test run share compiled code."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def lab(tmp_path: Path, compiled: Path) -> Iterator[Lab]:
    """A directory with processes in it, all gone after the test."""
    lab = Lab(tmp_path, compiled)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def reference() -> Reference:
    """``reference(steps, batch_size)``: the checkpoint of a tiny run, computed in this process.

    No coordinator, worker or message has a part in it: what they make is compared with this.
    """

    @cache
    def compute(
        steps: int,
        batch_size: int = 32,
        documents: tuple[str, ...] = NAMES,
        validation_fraction: float = 0.0,
    ) -> Checkpoint:
        corpus = Corpus(documents, 42, validation_fraction)
        model = GPTConfig(corpus.tokenizer.vocab_size, n_embd=4, n_head=2, block_size=4)
        config = TrainingConfig(
            model, steps=steps, batch_size=batch_size, validation_fraction=validation_fraction
        )
        start, engine = initial_state(config, corpus), ScalarEngine(model)
        states = serial.run(
            Sync(), config, corpus, start, engine, evaluates=lambda step: step == steps
        )
        (*_, state) = states
        return to_checkpoint(config, state, corpus.tokenizer, {}, "")

    return compute


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory: pytest.TempPathFactory, compiled: Path) -> Path:
    """The directory of a complete run of 5 steps with batches of 4; look, do not touch."""
    lab = Lab(tmp_path_factory.mktemp("saved"), compiled)
    try:
        size = ("--steps", "5", "--batch-size", "4", "--workers", "1", "--engine", "scalar")
        train = lab.train(*TINY, *size, "--data", str(lab.data))
        assert train.wait() == 0, train.err
    finally:
        lab.close()
    return lab.run_dir().path
