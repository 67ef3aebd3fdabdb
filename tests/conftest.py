"""Fixtures of the tests with real processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from microgpt.checkpoint.format import Checkpoint
from tests.processes import LETTERS, LETTERS_MODEL, NAMES, TINY_MODEL, Lab
from tests.sharing import folder_of_the_run, once, share_compiled_code

Reference = Callable[..., Checkpoint]
LONG = 100  # documents that the scalar engine computes in a second, as long as the other one loads

# Test modules and a thousand short processes: each would compile its Python anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """Share compiled code among all processes and runs; test modules are imported later."""
    share_compiled_code()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each free process takes the next test, or all that share what is made once."""
    from tests.scheduling import Groups

    return Groups(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``-n auto`` means: two for each processor and two more: many wait."""
    return 2 * len(os.sched_getaffinity(0)) + 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--strategy FILE.py:Class``: try the laws of strategies on that, and nothing else."""
    parser.addoption("--strategy", default="", help="A class to put through the laws; see docs.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long tests first, so that none begins when the others are over; then whole systems."""
    own = [item for item in items if item.get_closest_marker("own_strategy")]
    items[:] = own if config.getoption("--strategy") else [i for i in items if i not in own]
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, not is_of_system(item)))


def is_of_system(item: pytest.Item) -> bool:
    """Whether a test is about several processes, and may take seconds."""
    return item.nodeid.startswith("tests/system/")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A directory with processes in it, all gone after the test."""
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def network() -> Iterator[Any]:
    """``lab.faults.machine.Network``: two network namespaces and a link between them."""
    from lab.faults.machine import Network, why_no_network

    if reason := why_no_network():
        pytest.skip(reason)
    network = Network(f"mgpt{os.getpid()}")
    try:
        yield network
    finally:
        network.close()


@pytest.fixture(scope="session")
def reference() -> Reference:
    """``reference(steps, batch_size)``: the checkpoint of a tiny run, computed in this process.

    ``four_letters``: of that model instead of the tiny one.

    No coordinator, worker or message has a part in it: what they make is compared with this. Long
    ones are computed by the other engine than that of the tests' workers, which takes less time.
    """
    # Not at the top: no kernel may be asked for before it is known where compiled code is kept.
    from microgpt.config import TrainingConfig
    from microgpt.data.corpus import Corpus
    from microgpt.engine import make_engine
    from microgpt.model import GPTConfig
    from microgpt.strategies import serial
    from microgpt.strategies.sync import Sync
    from microgpt.training import initial_state, to_checkpoint

    @cache
    def compute(
        steps: int,
        batch_size: int = 32,
        documents: tuple[str, ...] = NAMES,
        validation_fraction: float = 0.0,
        four_letters: bool = False,
    ) -> Checkpoint:
        corpus = Corpus(documents, 42, validation_fraction)
        sizes = LETTERS_MODEL if four_letters else TINY_MODEL
        model = GPTConfig(corpus.tokenizer.vocab_size, **sizes)
        config = TrainingConfig(
            model, steps=steps, batch_size=batch_size, validation_fraction=validation_fraction
        )
        engine = make_engine("tape" if steps * batch_size > LONG else "scalar", model)
        start = initial_state(config, corpus)
        states = serial.run(
            Sync(), config, corpus, start, engine, evaluates=lambda step: step == steps
        )
        (*_, state) = states
        return to_checkpoint(config, state, corpus.tokenizer, {}, "")

    return compute


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a complete run of 5 steps of 4; look, do not touch."""
    folder = folder_of_the_run(tmp_path_factory.getbasetemp())
    place = folder / "saved"
    with once(folder, "saved") as ours:
        if ours:
            shutil.rmtree(place, ignore_errors=True)  # of one that has failed
            place.mkdir()
            train_a_little(place)
    return place / "runs" / "it"


def train_a_little(place: Path) -> None:
    """Make a complete run."""
    lab = Lab(place)
    try:
        size = ("--steps", "5", "--batch-size", "4", "--workers", "1", "--engine", "scalar")
        train = lab.train(*LETTERS, *size, "--data", str(lab.data))
        assert train.wait() == 0, train.err
    finally:
        lab.close()
