"""The model of many workers, what it is fed with, and the commands around it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest

from coordinator.core.events import Recorded, WorkerPulse
from lab.bench.anatomy import Anatomy
from lab.bench.cells import SYSTEM, Cell, Measured
from lab.bench.scale import costs as costs_file
from lab.bench.scale.costs import Calibration, Seen, cells_for, costs_of
from lab.bench.scale.model import Costs, crossover, star, tree
from lab.bench.scale.plotting import drawn
from lab.bench.scale.points import Point
from lab.bench.scale.predicting import PLAIN, scale
from lab.bench.scale.running import Watched, typical
from lab.bench.scale.scaling import explained, shown
from lab.bench.scale.sharing import Network
from lab.bench.scale.waiting import Shares, shares
from lab.condition_texts import read_conditions
from lab.conditions import Link
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import make_plan
from lab.simulation.play import play
from lab.simulation.processors import Processors
from tests.processes import Lab

COSTS = Costs(
    step=0.3, send=0.02, receive=0.03, worker=0.1, call=0.2, document=0.01,
    vector=1000.0, document_down=10.0, document_up=1.0,
)  # fmt: skip
NOTHING = Costs(0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_with_one_worker_everything_comes_one_after_the_other() -> None:
    alone = star(COSTS, Network(), 1, 8)
    assert alone.seconds == pytest.approx(0.02 + 0.1 + 0.2 + 8 * 0.01 + 0.03 + 0.3)
    assert (alone.sent, alone.received) == (1080.0, 1008.0)
    far = star(COSTS, Network(Link(delay=5.0, rate=100.0)), 1, 8)
    assert far.seconds == pytest.approx(alone.seconds + 2 * 5.0 + 10.8 + 10.08)


def test_the_coordinator_bounds_a_star() -> None:
    busy = star(replace(NOTHING, send=0.02, receive=0.03, step=1.0), Network(), 64, 64)
    assert busy.seconds == pytest.approx(64 * 0.05 + 1.0)
    assert busy.bound == "coordinator"


def test_its_line_bounds_a_star_of_large_vectors() -> None:
    full = star(replace(NOTHING, vector=1000.0), Network(trunk=500.0), 8, 8)
    assert full.seconds == pytest.approx(8 * 2.0 + 2.0)  # the last answer comes behind the others
    assert full.bound == "line"


def test_processes_share_processors() -> None:
    costs = replace(NOTHING, call=1.0, step=0.5)
    assert star(costs, Network(), 4, 4).seconds == pytest.approx(1.5)
    assert star(costs, Network(), 4, 4, processors=2).seconds == pytest.approx(2.5)
    assert star(costs, Network(), 4, 4, processors=1).seconds == pytest.approx(4.5)
    crowded = replace(costs, crowding=1.5, switching=0.25)
    assert star(crowded, Network(), 4, 4, processors=2).seconds == pytest.approx(2 * 1.75 + 0.5)
    assert star(crowded, Network(), 2, 2, processors=3).seconds == pytest.approx(1.25 + 0.5)
    assert star(crowded, Network(), 1, 1, processors=2).seconds == pytest.approx(1.5)
    assert star(crowded, Network(), 4, 4).seconds == pytest.approx(1.5)
    late = replace(crowded, turns=1.1)
    assert star(late, Network(), 4, 4, processors=2).seconds == pytest.approx(1.1 * 4.0)
    assert star(late, Network(), 1, 1, processors=2).seconds == pytest.approx(1.5)


def test_what_is_done_ahead_costs_time_only_where_a_worker_waits_for_the_processor() -> None:
    costs = replace(NOTHING, call=1.0, step=0.5, ahead=0.25)
    assert star(costs, Network(), 1, 1).seconds == pytest.approx(1.5)
    assert star(costs, Network(), 2, 2, processors=3).seconds == pytest.approx(1.5)
    assert star(costs, Network(), 2, 2, processors=2).seconds == pytest.approx(1.75)
    assert star(costs, Network(), 1, 1, processors=1).seconds == pytest.approx(1.75)
    assert star(replace(costs, ahead=3.0), Network(), 1, 1).seconds == pytest.approx(3.5)
    of_documents = replace(costs, step_document=0.01, ahead_document=1.0)
    assert star(of_documents, Network(), 1, 4).seconds == pytest.approx(4.25 + 0.54)
    cold = star(replace(of_documents, ahead_document=0.0), Network(), 1, 4096).seconds
    assert cold == pytest.approx(1.5 + 0.01 * 1024)


def test_the_coordinator_goes_before_its_workers() -> None:
    costs = replace(NOTHING, call=1.0, send=0.1, receive=0.1, step=0.5)
    # The first of three workers has the other processor from 0.1 to 1.1, the second that of the
    # coordinator from 0.3, when all is sent, to 1.1, when there is an answer, and from 1.2 to 1.4.
    # The third follows the first.
    assert star(costs, Network(), 3, 3, processors=2).seconds == pytest.approx(2.2 + 0.5)
    # Two workers: the second has to wait for whatever the coordinator does.
    assert star(costs, Network(), 2, 2, processors=2).seconds == pytest.approx(4 * 0.1 + 1 + 0.5)


def test_a_worker_is_interrupted_and_goes_on_where_it_was() -> None:
    shared = Processors[str](2)
    shared.begin("a", 1.0)
    shared.begin("b", 2.0)
    shared.begin("c", 1.0)
    assert shared.assign(0.0, False) == [("a", 1.0), ("b", 2.0)]
    assert shared.assign(0.5, True) == []
    assert shared.assign(0.75, False) == [("b", 2.25)]
    assert shared.ended("a", 1.0)
    assert shared.assign(1.0, True) == [("c", 2.0)]
    assert not shared.ended("b", 2.25)
    assert shared.assign(1.5, False) == [("b", 2.75)]
    assert not shared.ended("b", 2.25)
    assert shared.ended("c", 2.0)
    assert shared.assign(2.0, False) == []
    assert shared.ended("b", 2.75)
    assert not shared.ended("b", 2.75)


def test_a_tree_overtakes_the_star() -> None:
    few = tree(COSTS, Network(), 8, 64, fan_out=8)
    assert few.seconds == pytest.approx(star(COSTS, Network(), 8, 64).seconds)
    numbers = (1, 4, 16, 64, 256, 1024)
    stars = [star(COSTS, Network(), number, 8 * number) for number in numbers]
    trees = [tree(COSTS, Network(), number, 8 * number, fan_out=16) for number in numbers]
    assert crossover(stars, trees) == 64
    assert crossover(trees, stars) is None
    assert trees[-1].sent == 4 * 1000.0 + 1024 * 8 * 10.0
    two_levels = tree(COSTS, Network(), 4, 64, fan_out=2).seconds
    # Taking in takes longer than giving out, so that the second answer waits at each node.
    below = 0.1 + 0.02 + (0.1 + 0.2 + 16 * 0.01) + 2 * 0.03
    assert two_levels == pytest.approx(0.02 + below + 2 * 0.03 + 0.3)
    with pytest.raises(ValueError, match="makes no tree"):
        tree(COSTS, Network(), 8, 8, fan_out=1)


def test_aggregators_are_given_aligned_blocks_more_than_one_where_that_is_better() -> None:
    costs = replace(NOTHING, document=1.0)
    assert tree(costs, Network(), 4, 64, fan_out=2).seconds == pytest.approx(16.0)
    # 32 and 16 documents for each of two, and half of each for a worker below.
    assert tree(costs, Network(), 4, 96, fan_out=2).seconds == pytest.approx(24.0)


def simulated(workers: int, batch: int, call: float, document: float, latency: str) -> float:
    """Seconds of a step in the simulator, where a coordinator takes no time."""
    passed = []
    for steps in (10, 30):
        plan = make_plan(1, workers, 0.0)
        plan = replace(
            plan, steps=steps, batch_size=batch, call_seconds=call, document_seconds=document,
            noise=0.0, hesitation=1e-6, shard_size=None, faults=(), heals_at=0.0, byzantine=None,
            verify_fraction=0.0, eval_every=0, stale=0.0, twice=0.0, checkpoint_every=100,
        )  # fmt: skip
        conditions = read_conditions(workers, link=[f"latency={latency}"])
        result = play(plan, STAND_IN, conditions=conditions)
        assert not result.problem
        passed.append(result.virtual_seconds)
    return (passed[1] - passed[0]) / 20


@pytest.mark.parametrize(("workers", "batch"), [(1, 8), (4, 32), (20, 20)])
def test_the_simulator_plays_what_the_model_says(workers: int, batch: int) -> None:
    costs = replace(NOTHING, call=0.004, document=0.002)
    model = star(costs, Network(Link(delay=0.01)), workers, batch)
    played = simulated(workers, batch, 0.004, 0.002, "10ms")
    assert played == pytest.approx(model.seconds, rel=0.03)


@pytest.mark.soak
def test_the_simulator_plays_a_thousand_workers() -> None:
    plan = replace(
        make_plan(1, 1000, 0.0), steps=100, batch_size=1000, document_seconds=0.02, noise=0.0,
        hesitation=1e-6, shard_size=1, faults=(), heals_at=0.0, byzantine=None,
        verify_fraction=0.0, eval_every=0, stale=0.0, twice=0.0, checkpoint_every=100,
    )  # fmt: skip
    result = play(plan, STAND_IN)
    assert not result.problem
    assert result.messages > 200_000


TRUE = Costs(
    step=0.3, send=0.02, receive=0.06, worker=0.1, call=0.2, document=0.01, vector=1000.0,
    document_down=10.0, document_up=8.0, ahead=0.4, step_document=0.001, ahead_document=0.002,
    crowding=1.25, switching=0.05, turns=1.1,
)  # fmt: skip


CELLS = cells_for(2)


def seen(workers: int, documents: int) -> Seen:
    """A run in which everything takes what ``TRUE`` says."""
    cell, step = Cell(workers, documents, 16), star(TRUE, Network(), workers, documents, 2)
    measured = Measured(SYSTEM, cell, 0, step.seconds, 9, int(step.sent), int(step.received))
    giving, taking = workers * TRUE.send, workers * TRUE.receive
    phases = {"receive": taking / 4, "decode": taking / 2, "tree sum": taking / 4}
    phases |= {"encode": giving / 2, "send": giving / 2, "rest": 0.7, "update": 0.1}
    engine = TRUE.call + documents / workers * TRUE.document
    crowded = workers > 1
    worker = TRUE.worker + engine * (TRUE.crowding if crowded else 1) + TRUE.switching * crowded
    names = [f"worker-{number + 1}" for number in range(workers)]
    processes = {"coordinator": phases, **{name: {"engine": engine} for name in names}}
    processor = {"coordinator": step.coordinating, **dict.fromkeys(names, worker)}
    return Seen(measured, Anatomy(cell, 0, step.seconds, 0.0, processes, processor))


def test_costs_give_back_what_the_runs_of_the_calibration_took() -> None:
    assert CELLS == ((1, 64), (1, 512), (2, 512), (8, 128))
    found = costs_of({cell: seen(*cell) for cell in CELLS}, 2)
    assert vars(found) == pytest.approx(vars(TRUE))
    for cell in CELLS:
        expected = seen(*cell).measured.step
        assert star(found, Network(), *cell, processors=2).seconds == pytest.approx(expected)


def test_what_disturbs_one_run_of_three_does_not_count() -> None:
    quiet = seen(*CELLS.small)
    busy = {name: 9 * seconds for name, seconds in quiet.anatomy.processor.items()}
    anatomy = replace(quiet.anatomy, processor=busy)
    disturbed = Seen(replace(quiet.measured, step=7.0), anatomy)
    assert typical([Watched(each, None) for each in (disturbed, quiet, quiet)]) == quiet


def test_costs_are_never_negative_however_the_runs_went() -> None:
    runs = {cell: seen(*cell) for cell in CELLS}
    fast = runs[CELLS.large]
    odd = replace(fast.anatomy, processor={"coordinator": 0.01, "worker-1": 0.02})
    runs[CELLS.large] = Seen(replace(fast.measured, step=0.01), odd)
    assert all(value >= 0.0 for value in vars(costs_of(runs, 2)).values())


def pulse(time: float, worker: int, computing: float, waited: float) -> Recorded:
    event = WorkerPulse(worker, f"worker-{worker}", 1, 9, 9, 0, 0, computing, waited, 0.0, 0.0)
    return Recorded(time, 0, event)


def test_shares_are_taken_between_pulses() -> None:
    recorded = [
        pulse(10.0, 1, 1.0, 1.0), pulse(11.0, 2, 5.0, 5.0), pulse(12.0, 1, 1.5, 2.5),
        pulse(14.0, 1, 3.0, 4.0), pulse(15.0, 2, 6.0, 9.0),
    ]  # fmt: skip
    assert shares(recorded) == Shares(3.0 / 8.0, 4.0 / 8.0, 1.0 / 8.0)
    assert shares(recorded[:2]) is None


def given() -> list[str]:
    """The flags for ``COSTS``, but for what is nothing."""
    flags = list[str]()
    for name, value in list(vars(COSTS).items())[:9]:
        flags += ["--cost", f"{name}={value if name in PLAIN else 1e6 * value}"]
    return flags


def test_scale_tells_what_the_model_says(lab: Lab) -> None:
    bench = lab.script(
        "bench", "scale", *given(), "--workers", "1,16,256", "--per-worker", "8", "--fan-out",
        "16", "--json", "out.json",
    )  # fmt: skip
    assert bench.wait() == 0, bench.err
    found = json.loads((lab.place / "out.json").read_text())
    assert found["costs"] == pytest.approx(vars(COSTS))
    assert [each["workers"] for each in found["star"]] == [1, 16, 256]
    expected = star(COSTS, Network(), 256, 2048).seconds
    assert found["star"][2]["seconds"] == pytest.approx(expected)
    assert found["tree"][2]["seconds"] == pytest.approx(
        tree(COSTS, Network(), 256, 2048, 16).seconds
    )
    assert found["crossover"] == 256
    assert bench.out.splitlines()[-1] == "a tree of 16 is faster from 256 workers on"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--cost", "speed=1"], "'speed=1' is not one of step, send, "),
        (["--cost", "step=x"], "'step=x' is not one of"),
        (["--costs", "bad.json"], "bad.json is no file of costs: "),
        (["--workers", "1000000"], "--workers: at most 100,000"),
        (["--trunk", "wide"], "--trunk"),
    ],
)
def test_what_scale_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text('{"version": 2, "costs": {"step": -1}}')
    with pytest.raises(click.ClickException) as refused:
        scale.main(flags, standalone_mode=False)
    assert line in refused.value.message
    assert "\n" not in refused.value.message


def test_costs_are_kept_in_a_file(tmp_path: Path) -> None:
    kept = Calibration(COSTS, "a machine", 2, 16, "names")
    (tmp_path / "costs.json").write_text(kept.to_json())
    assert costs_file.read(tmp_path / "costs.json") == kept
    with pytest.raises(click.ClickException, match="is no file of costs"):
        costs_file.read(tmp_path)


def found(workers: int, batch: int, seconds: float, predicted: float) -> Point:
    step = replace(star(COSTS, Network(), workers, batch), seconds=predicted)
    speed = batch / seconds
    shares = Shares(0.5, 0.3, 0.2)
    return Point(workers, batch, 3, seconds, 0.9 * speed, 1.1 * speed, shares, step, False)


def test_scaling_shows_and_draws_speeds_efficiency_model_and_waiting() -> None:
    points = [found(1, 32, 0.01, 0.01), found(2, 32, 0.008, 0.01)]
    rows = [list(column.cells) for column in shown(points).columns]
    told = [cells[1] for cells in rows]
    assert told[:6] == ["32", "2", "125", "4,000", "3,600..4,400", "62%"]
    assert told[7:] == ["100", "-20%", "50%", "30%", "20%"]
    assert "the model is off by -20% at most, with 2 workers and batch 32" in explained(points)
    drawing = drawn(points)
    for title in ("steps per second", "thousand documents per second", "efficiency", "outside"):
        assert title in drawing
    assert drawing.count("batch 32, model from") == 3
    assert "batch 32 from 1.0000 to 0.6250" in drawing
    assert "batch 32 from 0.5000 to 0.5000" in drawing


@pytest.mark.soak
def test_scaling_is_measured(lab: Lab) -> None:
    (lab.place / "costs.json").write_text(Calibration(COSTS, "a machine", 2, 4, "x").to_json())
    bench = lab.script(
        "bench", "scaling", "--data", str(lab.data), "--workers", "2", "--batches", "4",
        "--width", "4", "--repeats", "1", "--seconds", "1.2", "--costs", "costs.json",
        "--json", "out.json", "--plot", "plot.svg",
    )  # fmt: skip
    assert bench.wait(240) == 0, bench.err
    one, two = json.loads((lab.place / "out.json").read_text())["points"]
    assert (one["workers"], two["workers"], two["batch"]) == (1, 2, 4)
    assert one["ideal"] == one["documents_per_second"] == 4 / one["seconds"]
    assert two["ideal"] == 2 * one["ideal"]
    assert two["off"] == pytest.approx(two["seconds"] / two["predicted"]["seconds"] - 1)
    assert sum(two["shares"].values()) == pytest.approx(1.0)
    assert 0.0 < two["shares"]["computing"] < 1.0
    drawing = (lab.place / "plot.svg").read_text()
    assert drawing.startswith("<svg")
    assert "batch 4, model" in drawing
