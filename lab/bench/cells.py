"""What ``bench.py whole`` measures: cells, what is told of each, and the programs that measure."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import click

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset
from microgpt.data.packed import PackedDocuments
from microgpt.model import GPTConfig
from microgpt.support.isolation import isolated
from microgpt.training import TrainingState, initial_state

SEED = 42
MANY_STEPS = 10**9  # more than anybody takes: the learning rate stays what it is

BARE, COMPUTING, SYSTEM, ENGINE = "bare", "bare with compute", "system", "engine"


class Cell(NamedTuple):
    """So many workers, documents in a batch, and numbers in an embedding."""

    workers: int
    batch: int
    width: int


@dataclass(frozen=True)
class Measured:
    """One measurement in one of the repeats.

    ``step``: seconds, the median over so many ``steps``. ``sent`` and ``received``: bytes of the
    median step, seen from the coordinator. ``loss``: of the first batch, if it is known.
    ``coordination``: seconds of a median step without the slowest worker's arithmetic and the
    update. ``processor``: seconds for which the coordinator, or the ROUTER's process, had one in
    a mean step, with all its threads.
    """

    kind: str
    cell: Cell
    repeat: int
    step: float
    steps: int
    sent: int = 0
    received: int = 0
    loss: float | None = None
    coordination: float | None = None
    processor: float | None = None

    @property
    def documents_per_second(self) -> float:
        """At the median step."""
        return self.cell.batch / self.step

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        plain = {**asdict(self), "documents_per_second": self.documents_per_second}
        del plain["kind"], plain["cell"]
        return {"kind": self.kind, **self.cell._asdict(), **plain}


@dataclass(frozen=True)
class Task:
    """What a program measures: each of the ``batches`` for so many ``seconds``.

    ``model``: the fields of GPTConfig. ``data``: documents, as for training.
    """

    model: dict[str, int]
    data: str
    workers: int
    batches: Sequence[int]
    seconds: float


class Work(NamedTuple):
    """Documents in the order of training, and the state that it begins with."""

    config: TrainingConfig
    documents: PackedDocuments
    state: TrainingState


def load(task: Task) -> Work:
    """The documents and weights of a training. Raises DatasetError."""
    corpus = Corpus(load_dataset(task.data).documents, SEED)
    config = TrainingConfig(GPTConfig(**task.model), steps=MANY_STEPS, batch_size=1, seed=SEED)
    documents = PackedDocuments.pack(corpus.documents(0, corpus.num_training))
    return Work(config, documents, initial_state(config, corpus))


def vocabulary(data: str) -> int:
    """Tokens that there are in these documents. Raises DatasetError."""
    return Corpus(load_dataset(data).documents, SEED).tokenizer.vocab_size


def run_program(module: str, task: Task, repeat: int) -> list[Measured]:
    """What a program of ours finds out in a process of its own. Raises ClickException."""
    width = task.model["n_embd"]
    done = subprocess.run(  # noqa: S603  # our own module
        isolated(module), input=json.dumps(asdict(task)), capture_output=True, text=True
    )
    if done.returncode:
        raise click.ClickException(f"{module} did not run: {done.stderr.strip()[-500:]}")
    return [
        Measured(cell=Cell(task.workers, answer.pop("batch"), width), repeat=repeat, **answer)
        for answer in json.loads(done.stdout)
    ]
