"""The same runs in virtual time: the simulator of ``microgpt experiment`` with these costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import click

from lab.bench.cells import SEED
from lab.bench.progress import Steps
from lab.bench.scale.costs import Calibration
from lab.experiments import virtual
from lab.experiments.checks import prepare
from lab.experiments.measurement import DONE
from lab.experiments.one_machine_costs import OneMachine
from lab.experiments.settings import DEFAULTS
from lab.experiments.simulation import Simulation
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset

STEPS = 24
FIRST = 8  # from here on: before, the coordinator does not know yet how fast its workers are


def virtual_seconds(
    cells: Iterable[tuple[int, int]], calibration: Calibration
) -> dict[tuple[int, int], float]:
    """Seconds of the median step for each of these (workers, documents).

    Arithmetic and decisions are real, time is not: on this machine's processors everything takes
    what the calibration says. Raises ClickException.
    """
    cells = list(cells)
    steps = Steps("virtual", len(cells))
    corpus = Corpus(load_dataset(calibration.data).documents, SEED)
    found = {}
    for cell in cells:
        with steps.next(f"workers: {cell[0]}, batch {cell[1]}"):
            found[cell] = _virtual(cell, calibration, corpus)
    return found


def _virtual(cell: tuple[int, int], calibration: Calibration, corpus: Corpus) -> float:
    workers, batch = cell
    settings = {
        **DEFAULTS, "steps": STEPS, "workers": workers, "batch_size": batch,
        "n_embd": calibration.width, "validation_fraction": 0.0,
    }  # fmt: skip
    costs = calibration.costs
    machine = OneMachine(calibration.processors, costs)
    simulation = Simulation(
        1e6 * costs.call, 1e6 * costs.document, noise=0.0, one_machine=True, machine=machine
    )
    prepared = prepare(settings, SEED, corpus.tokenizer.vocab_size, Path())
    run = virtual.run(prepared, workers, settings, simulation, corpus)
    if run.outcome != DONE:
        raise click.ClickException(f"the virtual run has failed: {run.reason}")
    ends = run.seconds[FIRST - 1 :]
    return statistics.median(b - a for a, b in pairwise(ends))
