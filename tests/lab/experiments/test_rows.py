"""The table of an experiment: its numbers against a plain computation, and what is said of them."""

from __future__ import annotations

import csv
import io
import statistics

import pytest

from coordinator.core.events import (
    Event,
    Level,
    Ready,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
)
from lab.experiments.curves import charts
from lab.experiments.expansion import Case
from lab.experiments.measurement import DONE, FAILED, Measurement, from_json, measured, step_times
from lab.experiments.rows import Row, as_csv, as_markdown, make_row, with_goodput
from lab.experiments.settings import DEFAULTS
from lab.experiments.verdict import verdict
from lab.experiments.wanted import Measure, Plot
from lab.report import chart

MEASURE = Measure((2.2, 2.0))


def run(*losses: float, pace: float = 0.5, size: int = 1000) -> Measurement:
    """Ten steps for each held-out loss, each of so many seconds and bytes."""
    steps = tuple(range(1, 10 * len(losses) + 1))
    return Measurement(
        DONE,
        steps=steps,
        losses=tuple(3.0 for _ in steps),
        seconds=tuple(pace * step for step in steps),
        bytes=tuple(size * step for step in steps),
        received=tuple(size * step // 4 for step in steps),
        documents=tuple(8 * step for step in steps),
        validations=tuple((10 * place, loss) for place, loss in enumerate(losses, 1)),
    )


def row(label: str, *runs: Measurement, axis: str = "way") -> Row:
    case = Case({axis: label}, DEFAULTS, {}, ())
    return make_row(case, dict(enumerate(runs)), MEASURE)


FAST = row("fast", run(2.4, 2.1, 1.95), run(2.2, 2.1, 2.0), run(2.3, 2.15, 1.9))
SLOW = row("slow", run(2.3, 2.25, 2.1, pace=2.0, size=10), run(2.4, 2.19, 2.12, pace=2.5, size=10))
BAD = row("bad", run(2.9, 2.8, 2.9), Measurement(FAILED, "it blew up"))


def test_each_number_is_mean_and_sample_standard_deviation_over_the_seeds() -> None:
    table = list(csv.DictReader(io.StringIO(as_csv([FAST, SLOW, BAD], MEASURE))))
    fast, slow, bad = table
    assert [each["way"] for each in table] == ["fast", "slow", "bad"]
    assert [each["seeds"] for each in table] == ["3", "2", "2"]
    assert [each["failed"] for each in table] == ["0", "0", "1"]
    last = [1.95, 2.0, 1.9]
    assert float(fast["validation mean"]) == statistics.fmean(last)
    assert float(fast["validation sd"]) == statistics.stdev(last)
    # 2.2 is reached at steps 20, 10 and 20: at the first evaluation that shows it or less.
    reached = [20.0, 10.0, 20.0]
    assert float(fast["steps to 2.2 mean"]) == statistics.fmean(reached)
    assert float(fast["seconds to 2.2 mean"]) == statistics.fmean([10.0, 5.0, 10.0])
    assert float(fast["seconds to 2.2 sd"]) == statistics.stdev([10.0, 5.0, 10.0])
    assert float(fast["bytes to 2 mean"]) == 30_000.0
    assert float(slow["steps/s mean"]) == statistics.fmean([1 / 2.0, 1 / 2.5])
    assert float(slow["documents/s mean"]) == statistics.fmean([8 / 2.0, 8 / 2.5])
    # Of the two seeds one reaches 2.2 and the other at its end, neither reaches 2.0.
    assert (slow["seconds to 2.2 n"], slow["seconds to 2 n"]) == ("2", "0")
    assert slow["seconds to 2 mean"] == ""
    # A failed run counts in no number.
    assert (bad["validation mean"], bad["validation sd"], bad["validation n"]) == ("2.9", "", "1")


def test_for_people_a_column_has_one_unit_and_what_not_all_have_is_counted() -> None:
    some = row("some", run(2.1), run(2.3))
    lines = as_markdown([FAST, some, BAD], MEASURE).splitlines()
    assert lines[0] == (
        "| way | runs | validation | steps/s | documents/s | bytes per step | bytes up per step | "
        "steps to 2.2 | seconds to 2.2 | bytes to 2.2 | steps to 2 | seconds to 2 | bytes to 2 |"
    )
    assert lines[2] == (
        "| fast | 3 done | 1.950 ± 0.050 | 2.00 ± 0.00 | 16.0 ± 0.0 | 1.00 ± 0.00 kB | 250 ± 0 B | "
        "16.7 ± 5.8 | 8.33 ± 2.89 s | 16.7 ± 5.8 kB | 30.0 ± 0.0 | 15.0 ± 0.0 s | 30.0 ± 0.0 kB |"
    )
    assert lines[3].endswith("| 1 of 2 | 1 of 2 | 1 of 2 | - | - | - |")
    assert lines[4].startswith("| bad | 1 of 2 failed | 2.900 |")


def test_sentences_are_made_of_the_table() -> None:
    twin = row("twin", run(2.3, 2.1, 1.96), run(2.3, 2.1, 1.93))
    told = verdict([FAST, SLOW, twin, BAD], MEASURE)
    assert told[0] == (
        "the lowest validation loss at the end has twin (1.945 ± 0.021), which cannot be told from "
        "fast; the highest has bad (2.900)."
    )
    assert told[1] == "runs have failed of bad."
    assert told[2] == (
        "validation loss 2.2 is reached soonest by fast (8.33 ± 2.89 s), which cannot be told from "
        "twin; last by slow (55.0 ± 7.1 s, 6.6 times)."
    )
    assert "validation loss 2: not reached with every seed by slow; bad." in told
    twins = verdict([FAST, twin], MEASURE)
    assert twins[0] == (
        "the lowest validation loss at the end has twin (1.945 ± 0.021), which cannot be told from "
        "fast."
    )
    alone = verdict([SLOW], MEASURE)
    assert "validation loss 2: no case has reached it with every seed." in alone


def test_with_an_axis_to_stay_within_the_sentences_are_about_each_of_its_labels() -> None:
    def at(place: str, way: str, *runs: Measurement) -> Row:
        case = Case({"place": place, "way": way}, DEFAULTS, {}, ())
        return make_row(case, dict(enumerate(runs)), measure)

    measure = Measure((2.2,), within="place")
    rows = [at(place, way, run(loss)) for place in ("near", "2") for way, loss in
            (("a", 2.0), ("b", 2.1))]  # fmt: skip
    told = verdict(rows, measure)
    assert told[0] == (
        "near: the lowest validation loss at the end has a (2.000); the highest has b (2.100)."
    )
    assert len([line for line in told if line.startswith("place 2: ")]) == len(told) / 2


def test_a_curve_is_the_mean_over_seeds_with_a_standard_deviation_on_either_side() -> None:
    [drawn] = charts([FAST, BAD], [Plot("seconds", "validation")], MEASURE)
    fast, bad = drawn.curves
    assert [x for x, _ in fast.points] == [5.0, 10.0, 15.0]
    means = [statistics.fmean(y) for y in ((2.4, 2.2, 2.3), (2.1, 2.1, 2.15), (1.95, 2.0, 1.9))]
    assert [y for _, y in fast.points] == means
    spread = statistics.stdev([2.4, 2.2, 2.3])
    assert fast.band[0] == (means[0] - spread, means[0] + spread)
    assert (len(bad.points), bad.band) == (3, ())  # of the seed that has not failed
    svg = chart.draw(drawn)
    assert svg.count('<polygon class="band') == 1
    assert chart.draw(drawn._replace(log=True, top=2.2)).count("<polyline") == 2


def test_columns_are_drawn_over_an_axis_and_over_each_other() -> None:
    rows = [row("8", run(2.1), axis="workers"), row("2", run(2.3), axis="workers")]
    over = Plot("workers", "validation")
    against = Plot("total bytes", "validation")
    line, points = charts(rows, [over, against], MEASURE)
    assert [curve.points for curve in line.curves] == [[(2.0, 2.3), (8.0, 2.1)]]
    assert [curve.points for curve in points.curves] == [[(0.01, 2.1)], [(0.01, 2.3)]]
    assert [curve.name for curve in points.curves] == ["workers 8", "workers 2"]


def closed(outcome: RoundOutcome, evaluation: bool = False) -> RoundClosed:
    return RoundClosed(1, 0, evaluation, 1, 1, outcome)


def opened(evaluation: bool = False) -> RoundOpened:
    return RoundOpened(1, 0, evaluation, 0, 8)


def test_the_time_of_a_step_is_that_since_there_was_a_worker_without_evaluations() -> None:
    happened: list[tuple[float, Event]] = [
        (100.0, Started(2, "r", "e", 0, 9, Level.ROUNDS, 0)),
        (101.0, opened()),
        (103.0, Ready(1, "worker-1")),
        (104.0, closed(RoundOutcome.APPLIED)),
        (104.0, opened()),
        (104.5, closed(RoundOutcome.GATHERED)),
        (105.0, closed(RoundOutcome.APPLIED)),
        (105.0, opened(evaluation=True)),
        (109.0, closed(RoundOutcome.EVALUATED, evaluation=True)),
        (110.0, closed(RoundOutcome.DROPPED)),
        (111.5, closed(RoundOutcome.APPLIED)),
    ]
    events = [Recorded(time, 0, event) for time, event in happened]
    assert step_times(events) == ({1: 1.0, 2: 2.0, 3: 4.5}, 0)
    records = [
        {"step": step, "loss": 3.0, "documents": 8}
        | ({"validation_loss": 2.5} if step == 2 else {})
        for step in (1, 2, 3)
    ]
    found = measured(records, [(6, 4), (11, 9), (20, 10)], events, outcome=DONE, wall=1.0)
    assert (found.seconds, found.documents) == ((1.0, 2.0, 4.5), (8, 16, 24))
    assert (found.bytes, found.received) == ((10, 20, 30), (4, 9, 10))
    assert found.validations == ((2, 2.5),)
    assert from_json(found.to_json()) == found


def test_steps_that_no_checkpoint_had_are_lost_and_their_time_is_not() -> None:
    happened: list[tuple[float, Event]] = [
        (0.0, Started(2, "r", "e", 0, 9, Level.ROUNDS, 0)),
        (1.0, Ready(1, "worker-1")),
        (1.0, opened()),
        (2.0, closed(RoundOutcome.APPLIED)),
        (3.0, closed(RoundOutcome.APPLIED)),
        (4.0, closed(RoundOutcome.APPLIED)),
        (6.0, Started(2, "r", "f", 1, 9, Level.ROUNDS, 8)),  # from the checkpoint of step 1
        (8.0, closed(RoundOutcome.APPLIED)),
        (9.0, Started(2, "r", "g", 2, 9, Level.ROUNDS, 16)),
        (11.0, closed(RoundOutcome.APPLIED)),
    ]
    events = [Recorded(time, 0, event) for time, event in happened]
    assert step_times(events) == ({1: 1.0, 2: 7.0, 3: 10.0}, 2)
    records = [{"step": step, "loss": 3.0, "documents": 8} for step in (1, 2, 3)]
    found = measured(records, [(1, 1)] * 3, events, outcome=DONE)
    assert (found.lost, found.seconds[-1], found.documents[-1]) == (2, 10.0, 24)
    assert from_json(found.to_json()) == found


def test_goodput_is_a_share_of_the_row_without_failures_seed_by_seed() -> None:
    measure = Measure((), baseline=("mtbf", "never"))

    def row(way: str, mtbf: str, *paces: float) -> Row:
        runs = {seed: run(2.1, pace=pace) for seed, pace in enumerate(paces)}
        return make_row(Case({"way": way, "mtbf": mtbf}, DEFAULTS, {}, ()), runs, measure)

    rows = [
        row("a", "never", 0.5, 1.0), row("a", "50", 1.0, 4.0),
        row("b", "never", 0.25, 0.5), row("b", "50", 1.0, 2.0), row("c", "50", 1.0, 1.0),
    ]  # fmt: skip
    found = with_goodput(rows, measure)
    assert [each.cells["goodput"].values for each in found] == [
        (1.0, 1.0), (0.5, 0.25), (1.0, 1.0), (0.25, 0.25), (),
    ]  # fmt: skip
    shares = [line.split(" | ")[6] for line in as_markdown(found, measure).splitlines()[2:]]
    assert shares == ["100 ± 0 %", "37.5 ± 17.7 %", "100 ± 0 %", "25.0 ± 0.0 %", "-"]
    [sentence] = [told for told in verdict(found, measure) if "goodput" in told]
    assert sentence == (
        "the highest goodput has a, mtbf 50 (37.5 ± 17.7 %); the lowest has b, mtbf 50 "
        "(25.0 ± 0.0 %)."
    )
    assert with_goodput(rows, MEASURE) == rows


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", FAST.runs[0].to_json()[:-1], FAST.runs[0].to_json().replace("0.5", "NaN"),
     FAST.runs[0].to_json().replace('"done"', '"lost"')],
)  # fmt: skip
def test_what_is_no_measurement_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"measurement|JSON|Expecting"):
        from_json(text)


def test_a_training_loss_may_be_a_goal_too() -> None:
    steps = tuple(range(1, 151))
    losses = tuple(3.0 if step <= 20 else 1.9 for step in steps)
    found = Measurement(
        DONE, steps=steps, losses=losses, seconds=tuple(0.1 * step for step in steps),
        bytes=tuple(10 * step for step in steps), received=steps, documents=steps,
        validations=((75, 2.3), (150, 2.15)),
    )  # fmt: skip
    measure = Measure((2.2,), training=(2.0, 1.5))
    case = Case({"way": "only"}, DEFAULTS, {}, ())
    only = make_row(case, {0: found}, measure)
    # Of the last hundred steps 9 may be at 3.0: 2.0 is reached at step 111, and not at 100.
    first = next(n for n in range(100, 151) if statistics.fmean(losses[n - 100 : n]) <= 2.0)
    assert only.cells["steps to training 2"].values == (float(first),)
    assert only.cells["seconds to training 2"].mean == pytest.approx(0.1 * first)
    assert only.cells["bytes to training 2"].mean == 10 * first
    assert only.cells["steps to training 1.5"].values == ()
    assert only.cells["steps to 2.2"].values == (150.0,)
    sentences = verdict([only], measure)
    assert any(s.startswith("training loss 2 is reached soonest by only") for s in sentences)
    assert "training loss 1.5: no case has reached it with every seed." in sentences
