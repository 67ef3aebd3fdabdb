"""How far runs are from another one: against plain arithmetic, and in whole experiments."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt
from lab.experiments.curves import charts
from lab.experiments.distance import apart
from lab.experiments.expansion import expand, trials
from lab.experiments.kept_weights import keeping, read_weights
from lab.experiments.measurement import DONE, Measurement, from_json
from lab.experiments.reading import ExperimentError
from lab.experiments.rows import as_markdown, make_row
from lab.experiments.specification import read_specification
from lab.experiments.verdict import verdict
from lab.experiments.wanted import Measure, Plot
from microgpt.numerics.vectors import vector_from_bytes
from tests.lab.experiments.test_experiment_command import BASE, MODEL, experiment, rows_of
from tests.lab.experiments.test_rows import row
from tests.processes import Lab


def run(*losses: float, **more: Any) -> Measurement:
    """Evaluated after each of its steps."""
    steps = tuple(range(1, len(losses) + 1))
    seconds = tuple(map(float, steps))
    return Measurement(
        DONE, steps=steps, losses=losses, seconds=seconds, bytes=steps, received=steps,
        documents=steps, validations=tuple(zip(steps, losses, strict=True)), **more,
    )  # fmt: skip


def test_the_numbers_are_what_they_are_called() -> None:
    ours = {1: np.array([3.0, 0.0, 4.0]), 2: np.array([1.0, 2.0, 2.0]), 3: np.zeros(3)}
    theirs = {1: np.array([3.0, -0.0, 4.0]), 2: np.array([1.0, 2.0, 5.0])}
    found = apart(run(2.5, 2.0, 1.0), ours, run(2.5, 2.25, 1.0), theirs)
    assert found == {
        "distance": ((1, 0.0), (2, pytest.approx(3.0 / math.sqrt(30.0), rel=1e-15))),
        "differing_weights": ((1, 1.0), (2, 1.0)),  # 0 and -0 are not the same bits
        "loss_difference": ((1, 0.0), (2, 0.25)),
    }


def test_weights_are_read_as_they_were_written_and_a_broken_file_is_none(tmp_path: Path) -> None:
    assert read_weights(tmp_path) == {}
    weights = {20: np.array([1.0, 1e-300]), 10: np.array([-0.0, math.pi])}
    keeping(tmp_path)(weights)
    found = read_weights(tmp_path)
    assert {step: x.tobytes() for step, x in found.items()} == {
        step: x.tobytes() for step, x in weights.items()
    }
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-30])
    assert read_weights(tmp_path) == {}


ORDERS = f"""schema = 1
title = "Orders"
simulated = true
seeds = [1]
[base]{BASE.replace("batch_size = 8", "batch_size = 16")}
link = "latency=1ms,jitter=1ms"
[simulation]
call_microseconds = 50
document_microseconds = 1000
[matrix.way]
alone = {{ workers = 1 }}
sync = {{ workers = 4 }}
arrival = {{ workers = 4, strategy = "arrival-order" }}
again = {{ workers = 4, strategy = "arrival-order", repeat = 1 }}
[measure]
losses = []
numbers = ["distance", "differing_weights", "loss_difference", "nothing"]
reference = {{ way = "alone" }}
[[plot]]
y = "distance"
log_y = true
"""


@pytest.mark.soak
def test_a_sum_in_arrival_order_drifts_from_that_of_one_process_and_is_another_each_time(
    lab: Lab,
) -> None:
    process = experiment(lab, ORDERS)
    assert process.wait() == 0, process.err
    rows = {row["way"]: row for row in rows_of(lab)}
    for way, found in rows.items():
        differs = way in ("arrival", "again")
        assert (float(found["differing_weights mean"]) > 0) is differs
        assert (float(found["distance mean"]) > 0.0) is differs
        assert float(found["distance mean"]) < 1e-12
        assert found["nothing n"] == "0"
    assert rows["arrival"]["distance mean"] != rows["again"]["distance mean"]
    told = (
        "to the bit, the weights at the end are those of alone in alone; sync; they are others in "
    )
    [line] = [line for line in process.out.splitlines() if line.startswith(told)]
    assert set(line.removeprefix(told).rstrip(".").split("; ")) == {"arrival", "again"}
    svg = (lab.place / "results/it/plots/1-distance-by-steps.svg").read_text()
    drawn = re.findall("<title>([^<]*)</title>", svg)
    assert drawn == ["arrival", "again"], "what is zero has no place on a logarithmic axis"
    names = (lab.place / "names.txt").read_text().split()
    alone = microgpt.train(
        names, steps=6, batch_size=16, seed=1, validation_fraction=0.2, eval_every=3,
        engine="scalar", **MODEL,
    )  # fmt: skip
    weights = vector_from_bytes(alone.checkpoint.weights)
    distances = set()
    for place in (lab.place / "results/it/trials").iterdir():
        kept = read_weights(place)
        assert [*kept] == [3, 6]
        distances.add(float(np.linalg.norm(kept[6] - weights) / np.linalg.norm(weights)))
    in_table = {float(found["distance mean"]) for found in rows.values()}
    assert sorted(in_table) == pytest.approx(sorted(distances), rel=1e-9)


def test_what_a_strategy_tells_is_a_column_and_a_curve() -> None:
    measure = Measure((), numbers=("noise_scale",))
    told = {"noise_scale": ((1, 40.0), (2, 60.0))}, {"noise_scale": ((1, 20.0), (2, 100.0))}
    case = row("a").case
    made = make_row(case, {n: run(2.0, 1.0, numbers=each) for n, each in enumerate(told)}, measure)
    assert "80.0 ± 28.3" in as_markdown([made], measure)
    [chart] = charts([made], [Plot("documents", "noise_scale", told=True, log_y=True)], measure)
    [curve] = chart.curves
    means = [(1.0, math.sqrt(800.0)), (2.0, math.sqrt(6000.0))]  # geometric ones
    assert [*map(list, curve.points)] == [pytest.approx(list(point)) for point in means]
    lowest, highest = curve.band[0]
    factor = math.exp(math.log(40.0 / 20.0) / math.sqrt(2.0))  # a deviation of two logarithms
    assert (lowest, highest) == pytest.approx((means[0][1] / factor, means[0][1] * factor))
    assert (chart.y, chart.log_y, chart.whole) == ("noise scale", True, True)


def test_numbers_survive_their_file_and_older_files_have_none() -> None:
    found = run(2.0, 1.0, numbers={"noise_scale": ((1, 40.0),)})
    assert from_json(found.to_json()) == found
    assert from_json(run(2.0).to_json().replace('"numbers": {}', '"wall": 0.0')).numbers == {}


def test_small_numbers_are_shown_as_powers_of_ten_and_nothing_as_zero() -> None:
    measure = Measure((), numbers=("distance",))
    for values, shown in (((3e-12, 5e-12), "4.0e-12 ± 1.4e-12"), ((0.0, 0.0), " 0 ")):
        runs = {n: run(2.0, numbers={"distance": ((1, x),)}) for n, x in enumerate(values)}
        assert shown in as_markdown([make_row(row("a").case, runs, measure)], measure)


def test_without_a_reference_nothing_is_said_of_bits() -> None:
    assert "to the bit" not in " ".join(verdict([row("a"), row("b")], Measure(())))


HEAD = 'schema = 1\ntitle = "x"\n[matrix]\nworkers = [1, 2]\n[measure]\n'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('numbers = ["distance"]\n', 6, "distance is from which case? [measure] reference = {"),
        ("reference = { worker = 1 }\n", 6, "there is no axis 'worker': did you mean workers?"),
        ("reference = { workers = 3 }\n", 6, "there is no label '3': there are 1, 2"),
        ("reference = 3\n", 6, "[measure.reference] must be a table, not 3"),
        ("numbers = [3]\n", 6, "a value must be a text, not 3"),
        ('[[plot]]\ny = "noise_scale"\n', 7, "there is no number 'noise_scale'"),
    ],
)
def test_a_mistake_in_what_is_to_be_measured_has_its_line(
    text: str, line: int, message: str
) -> None:
    with pytest.raises(ExperimentError) as caught:
        expand(read_specification((HEAD + text).encode(), "x.toml"))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"x.toml, line {line}: ")


def test_a_first_run_has_the_digest_that_it_had_before_there_were_repeats() -> None:
    cases = expand(read_specification((HEAD + "[[case]]\nname = 'r'\nrepeat = 1").encode(), "x"))
    first, _, again = trials(cases, [1], lambda case: None, {})
    assert "repeat" not in first.to_dict()["settings"]
    assert "weights" not in first.to_dict()
    assert again.to_dict()["settings"]["repeat"] == 1
    assert replace(first, weights=True).digest != first.digest
