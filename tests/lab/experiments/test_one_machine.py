"""Simulated runs whose processes share one machine: their times are those of the model."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest

from lab.bench.scale.model import Costs, star
from lab.bench.scale.sharing import Network
from lab.experiments import one_machine_costs, virtual
from lab.experiments.checks import prepare
from lab.experiments.expansion import Case, Trial, on_machine
from lab.experiments.measurement import DONE
from lab.experiments.one_machine_costs import OneMachine
from lab.experiments.settings import DEFAULTS
from lab.experiments.simulation import Simulation
from microgpt.data.corpus import Corpus
from tests.lab.experiments.test_experiment_command import SIMULATED, experiment, rows_of
from tests.processes import NAMES, TINY_MODEL, Lab

COSTS = Costs(
    step=3e-4, send=9e-5, receive=1e-4, worker=4e-4, call=1e-4, document=5e-4, vector=100.0,
    document_down=4.0, document_up=8.0, ahead=4e-4, step_document=1e-6, ahead_document=2e-6,
    crowding=1.25, switching=1e-4, turns=1.1,
)  # fmt: skip
SIMULATION = on_machine(Simulation(noise=0.0, one_machine=True), OneMachine(2, COSTS))


def seconds_of_a_step(workers: int, batch: int, processors: int, **more: object) -> float:
    """When nothing is new any more, in virtual time."""
    settings = {
        **DEFAULTS, **TINY_MODEL, "engine": "scalar", "steps": 10, "workers": workers,
        "batch_size": batch, "validation_fraction": 0.0, **more,
    }  # fmt: skip
    corpus = Corpus(NAMES, 1)
    prepared = prepare(settings, 1, corpus.tokenizer.vocab_size, Path())
    simulation = replace(SIMULATION, machine=OneMachine(processors, COSTS))
    run = virtual.run(prepared, workers, settings, simulation, corpus)
    assert run.outcome == DONE, run.reason
    last = [b - a for a, b in pairwise(run.seconds)][-3:]
    assert last == pytest.approx([last[0]] * 3)
    return last[0]


@pytest.mark.parametrize(
    ("workers", "batch", "processors"), [(1, 8, 2), (1, 8, 1), (2, 8, 2), (4, 8, 2), (4, 8, 8)]
)
def test_virtual_time_is_what_the_model_says(workers: int, batch: int, processors: int) -> None:
    expected = star(COSTS, Network(), workers, batch, processors).seconds
    assert seconds_of_a_step(workers, batch, processors) == pytest.approx(expected)


def test_a_slow_worker_and_a_link_count_beside() -> None:
    usual = seconds_of_a_step(1, 8, 2)
    slow = seconds_of_a_step(1, 8, 2, slow=["3x"])
    assert slow - usual == pytest.approx(2 * (COSTS.call + 8 * COSTS.document))
    # Who is slow sleeps meanwhile, and leaves the processor to others.
    both = seconds_of_a_step(2, 8, 1, slow=["3x"])
    assert both - seconds_of_a_step(2, 8, 1) < 2 * (COSTS.call + 8 * COSTS.document)
    far = seconds_of_a_step(1, 8, 2, link=["latency=2ms"])
    assert far - usual == pytest.approx(0.004)


def test_what_is_not_on_one_machine_is_called_as_before() -> None:
    trial = Trial(Case({}, DEFAULTS, {}, ()), 1, Simulation(20.0, 7.0), {})
    assert [*trial.to_dict()["simulation"]] == [
        "call_microseconds", "document_microseconds", "noise", "start_seconds",
    ]  # fmt: skip
    shared = replace(trial, simulation=SIMULATION).to_dict()["simulation"]
    assert shared["machine"] == asdict(OneMachine(2, COSTS))
    assert shared["call_microseconds"] == pytest.approx(100.0)


def test_an_experiment_on_one_machine_takes_the_costs_of_its_folder(lab: Lab) -> None:
    text = SIMULATED.replace("[simulation]", "[simulation]\nnoise = 0.0\none_machine = true")
    text = text.replace("call_microseconds = 50\ndocument_microseconds = 1000\n", "")
    text = text.replace("steps = 6", "steps = 30")
    (lab.place / "results/it-quick/trials").mkdir(parents=True)
    key = "n_layer=1 n_embd=2 n_head=2 block_size=2 engine=scalar"
    kept = one_machine_costs.to_json({key: OneMachine(2, COSTS)})
    (lab.place / "results/it-quick/machine.json").write_text(kept)
    process = experiment(lab, text, "--quick")
    assert process.wait() == 0, process.err
    sync = rows_of(lab, "results/it-quick")[0]
    expected = star(COSTS, Network(), 2, 8, 2).seconds
    assert 1 / float(sync["steps/s mean"]) == pytest.approx(expected, rel=0.05)
    report = (lab.place / "results/it-quick/report.html").read_text()
    assert "all processes share 2 processors of one machine" in report
