"""``scripts/experiment.py`` with real processes: run, stopped, gone on with, and what it leaves."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import microgpt
from lab.experiments.kept_weights import read_weights
from microgpt.numerics.vectors import vector_to_bytes
from tests.processes import NAMES, TINY_MODEL, Lab, Process, eventually

MODEL: dict[str, Any] = {**TINY_MODEL}
BASE = f"""
data = "names.txt"
steps = 6
batch_size = 8
eval_every = 3
validation_fraction = 0.2
engine = "scalar"
{chr(10).join(f"{name} = {size}" for name, size in TINY_MODEL.items())}
"""
SIMULATED = f"""schema = 1
title = "Ways"
question = "Which <way>?"
simulated = true
seeds = [1, 2]
[base]{BASE}
[simulation]
call_microseconds = 50
document_microseconds = 1000
[matrix]
workers = [1, 3]
[matrix.way]
sync = {{}}
async = {{ strategy = "async", replicas = 3 }}
[measure]
losses = [3.0, 1.0]
[quick]
seeds = [1]
[quick.matrix]
workers = [2]
"""
WRONG = '''
from dataclasses import dataclass, replace

from microgpt.strategies.sync import Sync


@dataclass(frozen=True)
class Uphill(Sync):
    """Goes back the way that it should go."""

    def update(self, view, round, results):
        after = super().update(view, round, results)
        return replace(after, params=2.0 * view.state.params - after.params)
'''


def experiment(lab: Lab, text: str, *flags: str, name: str = "it.toml") -> Process:
    (lab.place / name).write_text(text)
    return lab.script("experiment", name, *flags)


def rows_of(lab: Lab, output: str = "results/it") -> list[dict[str, str]]:
    with open(lab.place / output / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def left_of(place: Path) -> list[str]:
    """Command lines of processes that are about this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{place}/results" in words or f" {place}" in words:
                found.append(words)
    return found


def test_a_simulated_experiment_leaves_a_table_a_report_and_drawings(lab: Lab) -> None:
    process = experiment(lab, SIMULATED, "--dry-run")
    assert process.wait() == 0
    assert process.out.splitlines()[:5] == [
        "workers 1, sync", "workers 1, async", "workers 3, sync", "workers 3, async",
        "4 cases, 8 runs",
    ]  # fmt: skip
    assert process.out.splitlines()[5].startswith("about ")
    assert not (lab.place / "results").exists()

    process = experiment(lab, SIMULATED, "--jobs", "2")
    assert process.wait() == 0
    assert process.err.count(" of 8  ") == 8
    assert ", about " in process.err
    rows = rows_of(lab)
    assert [(row["workers"], row["way"]) for row in rows] == [
        ("1", "sync"), ("1", "async"), ("3", "sync"), ("3", "async"),
    ]  # fmt: skip
    alone, several = rows[0], rows[2]
    assert alone["validation mean"] == several["validation mean"]  # exact: the same bits
    # 6 batches of 8 documents of a millisecond on one worker, or a call for each of three shards
    assert 0.04 < float(alone["total seconds mean"]) < 0.09
    assert float(several["total seconds mean"]) < float(alone["total seconds mean"])
    place = lab.place / "results/it"
    names = (lab.place / "names.txt").read_text().split()
    same = microgpt.train(
        names, steps=6, batch_size=8, seed=2, validation_fraction=0.2, eval_every=3,
        engine="scalar", **MODEL,
    )  # fmt: skip
    found = [json.loads(path.read_text()) for path in place.glob("trials/*/result.json")]
    assert same.checkpoint.state_sha256 in [each["state_sha256"] for each in found]
    [mine] = [e for e in found if e["state_sha256"] == same.checkpoint.state_sha256][:1]
    assert mine["losses"] == list(same.losses)
    assert mine["validations"] == [[v.step, v.loss] for v in same.validations]
    report = (place / "report.html").read_text()
    assert "Which &lt;way&gt;?" in report
    assert "<script" not in report
    assert "http" not in report.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert len(list((place / "plots").glob("*.svg"))) == 3

    again = experiment(lab, SIMULATED)
    assert again.wait() == 0
    assert again.err == "8 of 8 runs are finished, and kept\n"
    assert (again.out, rows_of(lab)) == (process.out, rows)


@pytest.mark.soak
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=lambda end: end.name)
def test_a_stopped_experiment_goes_on_to_the_same_table(lab: Lab, end: signal.Signals) -> None:
    text = SIMULATED.replace("seeds = [1, 2]", "seeds = [1]")
    process = experiment(lab, text, "--jobs", "1", "-o", "results/killed")
    process.says("2 of 4  ")
    process.send(end)
    assert process.wait() == (130 if end == signal.SIGINT else -signal.SIGKILL)
    eventually(lambda: not left_of(lab.place), "its process ends, too")
    results = sorted((lab.place / "results/killed/trials").glob("*/result.json"))
    kept = {path: path.stat().st_mtime_ns for path in results}
    broken = [path for path in kept if "async" in path.with_name("trial.json").read_text()][:1]
    for path in broken:  # half a result is none
        path.write_bytes(path.read_bytes()[:100])
        del kept[path]
    assert kept
    process = experiment(lab, text, "-o", "results/killed")
    assert process.wait() == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert experiment(lab, text, "-o", "results/whole").wait() == 0
    one, other = (lab.place / "results" / name / "table.csv" for name in ("killed", "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_real_processes_have_the_bits_of_one_and_ctrl_c_leaves_nothing(lab: Lab) -> None:
    real = f"""schema = 1
title = "Real"
seeds = [5]
[base]{BASE}
[matrix]
workers = [2]
[measure]
losses = [3.0]
reference = {{ workers = 2 }}
[[case]]
name = "endless"
steps = 1000000
"""
    process = experiment(lab, real)
    process.says("1 of 2  workers 2, seed 5: validation loss ")
    endless = lab.place / "results/it/trials"
    eventually(
        lambda: any(path.stat().st_size for path in endless.glob("*/run/metrics.jsonl")
                    if not (path.parent.parent / "result.json").exists()),
        "the other one is at work",
    )  # fmt: skip
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert process.err.splitlines()[-1] == "stopped: 1 of 2 runs are finished, and kept"
    assert left_of(lab.place) == []
    [result] = [json.loads(path.read_text()) for path in endless.glob("*/result.json")]
    same = microgpt.train(
        NAMES, steps=6, batch_size=8, seed=5, validation_fraction=0.2, engine="scalar", **MODEL
    )
    assert result["state_sha256"] == same.checkpoint.state_sha256
    assert result["losses"] == list(same.losses)
    assert len(result["seconds"]) == 6
    assert sorted(result["bytes"]) == result["bytes"]
    [kept] = map(read_weights, {path.parent for path in endless.glob("*/result.json")})
    assert [*kept] == [3, 6]
    assert vector_to_bytes(kept[6]) == same.checkpoint.weights


@pytest.mark.soak
def test_a_wrong_strategy_shows_and_a_failing_one_is_recorded_while_others_go_on(lab: Lab) -> None:
    (lab.place / "deep").mkdir()
    (lab.place / "deep/mine.py").write_text(WRONG)
    broken = WRONG.replace("2.0 *", "None *").replace("Uphill", "Broken")
    (lab.place / "deep/broken.py").write_text(broken)
    text = """schema = 1
title = "Uphill"
simulated = true
seeds = [1]
[base]
steps = 40
[simulation]
call_microseconds = 20
document_microseconds = 7
[matrix.way]
sync = {}
broken = { strategy = "broken.py:Broken" }
wrong = { strategy = "mine.py:Uphill" }
[quick]
"""
    process = experiment(lab, text, "--quick", name="deep/it.toml")
    assert process.wait() == 1
    sync, failed, wrong = rows_of(lab, "results/it-quick")
    assert float(sync["validation mean"]) < 2.5 < 4.0 < float(wrong["validation mean"])
    assert (failed["failed"], failed["validation mean"]) == ("1", "")
    assert "TypeError" in process.err
    assert "(line 13 of broken.py)" in process.err
    report = (lab.place / "results/it-quick/report.html").read_text()
    assert "(line 13 of broken.py)" in report
    # Mended, it is done again, and nothing else is.
    (lab.place / "deep/broken.py").write_text(WRONG.replace("Uphill", "Broken"))
    process = experiment(lab, text, "--quick", name="deep/it.toml")
    assert process.wait() == 0
    assert process.err.startswith("2 of 3 runs are finished, and kept\n3 of 3  broken")


@pytest.mark.soak
def test_what_cannot_be_is_one_line(lab: Lab) -> None:
    def told(process: Process, code: int = 1) -> str:
        assert process.wait() == code
        assert process.err.count("\n") == 1
        return process.err

    wrong = SIMULATED.replace('"async"', '"asink"')
    assert told(experiment(lab, wrong)) == (
        "error: it.toml, line 24: there is no strategy 'asink': did you mean async? "
        "(or FILE.py:Class)\n"
    )
    assert "no.toml cannot be read: No such file" in told(lab.script("experiment", "no.toml"))
    os.mkfifo(lab.place / "pipe.toml")
    for other in (".", "pipe.toml"):
        assert "cannot be read: it is not a file" in told(lab.script("experiment", other))
    (lab.place / "latin.toml").write_bytes(b'title = "\xe9"')
    assert "latin.toml is not UTF-8" in told(lab.script("experiment", "latin.toml"))
    (lab.place / "other").mkdir()
    (lab.place / "other/precious").touch()
    process = experiment(lab, SIMULATED, "-o", "other")
    assert "other is not a folder of results" in told(process)
    process = experiment(lab, SIMULATED.replace("names.txt", "none.txt"), "--quick")
    missing = lab.place / "none.txt"
    assert told(process).startswith(f"error: it.toml, line 7: data: there is no file '{missing}'")
