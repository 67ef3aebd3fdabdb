"""The benches say on stderr how far they are and what is left, and refuse what is no number."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.faults.timetable import Timetable
from tests.marks import soak
from tests.processes import ROOT, Lab

sys.path.insert(0, str(ROOT / "scripts"))
from lab.bench.progress import follow, steps_done


@pytest.mark.parametrize(
    ("bench", "line"),
    [
        soak("checkpoints", "checkpoints: 0 % (run 1 of 50, workers: 1, checkpoints: none)"),
        soak("coordination", "coordination: 0 % (run 1 of 4, trivial (one position, width 1), "),
        soak("engine", "engine: 0 % (tape, width 16, batch 1)"),
        soak("events", "events: 0 % (run 1 of 20, none)"),
        soak("launchers", "launchers: 0 % (local)"),
        soak("page", "page: 0 % (turn 1 of 6, no page)"),
        ("whole", "whole: 0 % (preparing width 16)"),
    ],
)
def test_every_bench_says_at_once_what_it_is_at(lab: Lab, bench: str, line: str) -> None:
    data = ("--data", "embedded") if bench in ("engine", "whole") else ()
    started = lab.script("bench", bench, *data)
    started.says(line)
    assert started.err.startswith(line)
    started.send(signal.SIGINT)  # so that it removes what it has made
    assert started.wait() == 130


@pytest.mark.soak
def test_the_bench_of_events_compares_runs_with_and_without_them(lab: Lab) -> None:
    bench = lab.script("bench", "events", "--steps", "10", "--repeats", "1")
    assert bench.wait(240) == 0, bench.err
    rows = {line.split("│")[1].strip(): line.split("│") for line in bench.out.splitlines()
            if line.startswith("│")}  # fmt: skip
    assert [*rows] == ["none", "none again", "summary", "full"]
    size = {kind: int(cells[-2].replace(",", "")) for kind, cells in rows.items()}
    assert size["none"] == size["none again"] == 0 < size["summary"] < size["full"]


@pytest.mark.soak
def test_the_bench_of_the_page_compares_runs_with_and_without_it(lab: Lab) -> None:
    bench = lab.script(
        "bench", "page", "--seconds", "0.3", "--repeats", "1", "--steps", "200", "--workers", "1"
    )
    assert bench.wait(240) == 0, bench.err
    *rows, _, _, delay, opened = bench.out.splitlines()
    assert [row.partition("  ")[0] for row in rows] == [
        "no page", "page", "page and viewer", "no page again",
    ]  # fmt: skip
    assert all(re.search(r" [\d,]+ steps/s +\d+\.\d % ", row) for row in rows)
    assert re.match(r"from an event to its viewer: \d+ ms", delay)
    assert opened.startswith("a run of 200 steps")


WRITER = """
import json, pathlib, sys, time
path = pathlib.Path(sys.argv[1])
for step in range(1, 11):
    with path.open("a") as file:
        file.write(json.dumps({"step": step}) + "\\n")
    while step == 4 and not path.with_name("go").exists():
        time.sleep(0.01)
sys.exit(3)
"""


def test_a_run_is_followed_by_its_record(tmp_path: Path) -> None:
    shares: list[float] = []

    def tell(share: float) -> None:
        shares.append(share)
        if share == 0.4:
            (tmp_path / "go").touch()

    record = str(tmp_path / "metrics.jsonl")
    process = subprocess.Popen([sys.executable, "-c", WRITER, record])
    assert follow(process, tmp_path, 10, tell) == 3
    assert shares[0] == 0.0
    assert 0.4 in shares
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        soak(["checkpoints", "--workers", "x"], "'x' is not made of whole numbers"),
        soak(["coordination", "--workers", "1,,2"], "'1,,2' is not made of whole numbers"),
        (["engine", "--batches", "0"], "'0' is not made of whole numbers"),
        soak(["engine", "--data", "embedded", "--widths", "6"], "n_embd (6) must be a multiple"),
        soak(["engine", "--data", "none.txt"], "there is no file 'none.txt'"),
        (["tree", "--workers", "1"], "error: --aggregators 2 are too many for 1 workers"),
    ],
)
def test_what_a_bench_refuses(given: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench.py"), *given],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_last_whole_line_of_a_record_counts(tmp_path: Path) -> None:
    assert steps_done(tmp_path) == 0
    record = tmp_path / "metrics.jsonl"
    record.write_text("")
    assert steps_done(tmp_path) == 0
    record.write_text("".join(json.dumps({"step": n, "x": "y" * 90}) + "\n" for n in range(1, 500)))
    assert steps_done(tmp_path) == 499
    with open(record, "a") as file:
        file.write('{"step": 500, "x"')
    assert steps_done(tmp_path) == 499


def test_a_timetable_says_which_measurement_it_is_at() -> None:
    lines: list[str] = []
    table = Timetable([("kept", 30.0), ("curve", 10.0)], lines.append)
    with table.next():
        while not lines:
            pass
    assert re.fullmatch(r"measure: 0 %(, about .* left)? \(kept, 1 of 2\)", lines[0])
