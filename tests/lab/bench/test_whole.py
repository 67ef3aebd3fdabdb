"""The bench of the whole system: what stands in its file, its ratios, and peers that fail."""

from __future__ import annotations

import json
import os
import shlex
import signal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab.bench.bare_loop import largest_shard
from lab.bench.cells import BARE, COMPUTING, ENGINE, SYSTEM, Cell, Measured
from lab.bench.figures import (
    COORDINATION,
    LEAST_COORDINATION,
    ONE_ENGINE,
    PROCESSOR,
    TWO_ONE,
    WHOLE_BARE,
    Figure,
    Ratio,
    ratios,
)
from lab.bench.system import counted
from lab.bench.whole_table import speeds, spread
from microgpt.model import GPTConfig
from microgpt.support import step_clock
from microgpt.support.isolation import isolated
from tests.marks import soak
from tests.processes import PATIENCE, Lab, eventually

C_PROGRAM = '#include <math.h>\n#include <stdio.h>\nint main() { puts("4 documents"); return 0; }\n'
CELL = {"workers": 2, "batch": 4, "width": 4}


def with_a_broken_peer(lab: Lab) -> None:
    """As if PyTorch had been installed, by somebody who has made a mess of it."""
    place = lab.place / "cache" / "peer-torch"
    (place / "bin").mkdir(parents=True)
    (place / "ready").touch()
    python = place / "bin" / "python"
    python.write_text("#!/bin/sh\necho no tensors here >&2\nexit 3\n")
    python.chmod(0o755)


@pytest.mark.soak
def test_everything_is_measured_in_one_run(lab: Lab) -> None:
    with_a_broken_peer(lab)
    (lab.place / "good.c").write_text(C_PROGRAM)
    (lab.place / "bad.c").write_text("int main() { return nothing; }\n")
    bench = lab.script(
        "bench", "whole", "--data", str(lab.data), "--workers", "2", "--batches", "4",
        "--widths", "4", "--repeats", "1", "--seconds", "0.05", "--json", "out.json",
        "--peer", "ddp", "--peer", "c=good.c", "--peer", "c=bad.c",
    )  # fmt: skip
    assert bench.wait(240) == 0, bench.err
    found = json.loads((lab.place / "out.json").read_text())
    assert found["version"] == 1
    assert [model["n_embd"] for model in found["models"]] == [4]

    kinds = {each.pop("kind"): each for each in found["measured"]}
    assert [*kinds] == [ENGINE, BARE, COMPUTING, SYSTEM]
    assert all(each["repeat"] == 0 and each["steps"] >= 5 for each in kinds.values())
    for each in kinds.values():
        assert each["documents_per_second"] == each["batch"] / each["step"]
    for kind in (BARE, COMPUTING, SYSTEM):
        assert {name: kinds[kind][name] for name in CELL} == CELL
    kinds_of_ratios = [WHOLE_BARE, COORDINATION, LEAST_COORDINATION, PROCESSOR]
    assert [each["what"] for each in found["ratios"]] == kinds_of_ratios
    assert 0.0 < kinds[COMPUTING]["coordination"] < kinds[COMPUTING]["step"]

    # They compute the same to the bit.
    assert kinds[BARE]["loss"] is None
    assert kinds[ENGINE]["loss"] == kinds[COMPUTING]["loss"] == kinds[SYSTEM]["loss"] > 0.0

    # Two maps of the weights go out and two of gradients come back, in all three: but for a system
    # whose other worker has no processor, and is left out of most steps.
    model = found["models"][0]
    numbers = 12 * 4 * 4 + (2 * model["vocab_size"] + model["block_size"]) * 4
    for kind in (BARE, COMPUTING, SYSTEM):
        for way in ("sent", "received"):
            maps = 1 if kind == SYSTEM else 2
            assert maps * 8 * numbers < kinds[kind][way] < 2 * 8 * numbers + 2000

    # Where the time of a step went, in each of the processes; half of the step would be a mistake.
    [anatomy] = found["anatomy"]
    assert {name: anatomy[name] for name in CELL} == CELL
    assert anatomy["coordination"] == kinds[SYSTEM]["coordination"]
    coordinator, *workers = anatomy["processes"].items()
    assert (coordinator[0], *coordinator[1]) == ("coordinator", *step_clock.COORDINATOR)
    assert [(name, *phases) for name, phases in workers] == [
        ("worker-1", *step_clock.WORKER),
        ("worker-2", *step_clock.WORKER),
    ]
    assert anatomy["processor"].keys() == anatomy["processes"].keys()
    assert anatomy["processor"]["coordinator"] == kinds[SYSTEM]["processor"] > 0.0
    assert kinds[COMPUTING]["processor"] > 0.0
    for phases in anatomy["processes"].values():
        assert 0.5 < sum(phases.values()) / anatomy["step"] < 2.0
    assert "a step of " in bench.out

    assert found["c"]["good.c"][0]["output"] == "4 documents"
    assert "good.c" in bench.out
    assert found["problems"].keys() == {"ddp", "bad.c"}
    [ddp] = [line for line in bench.err.splitlines() if line.startswith("ddp is left out")]
    [bad] = [line for line in bench.err.splitlines() if line.startswith("bad.c is left out")]
    assert "no tensors here" in ddp
    assert "bad.c cannot be compiled: " in bad
    assert "nothing" in bad


def measured(kind: str, cell: Cell, *steps: float, **rest: Any) -> list[Measured]:
    return [Measured(kind, cell, repeat, step, 9, **rest) for repeat, step in enumerate(steps)]


def test_ratios_are_taken_within_each_repeat() -> None:
    one, two = Cell(1, 32, 16), Cell(2, 32, 16)
    found = ratios(
        [
            *measured(ENGINE, one, 1.0, 2.0, 4.0),
            *measured(BARE, one, 0.25, 0.25, 0.25),
            *measured(COMPUTING, one, 2.0, 4.0, 8.0, coordination=0.375, processor=0.25),
            *measured(SYSTEM, one, 2.0, 8.0, 12.0, coordination=0.5, processor=1.5),
            *measured(SYSTEM, two, 1.0, 4.0, 3.0),
            *measured("ddp float32", two, 8.0, 8.0, 9.0),
        ]
    )
    assert found == [
        Ratio(WHOLE_BARE, one, Figure(2 / 3, 0.5, 1.0)),
        Ratio(COORDINATION, one, Figure(2.0, 2.0, 2.0)),
        Ratio(LEAST_COORDINATION, one, Figure(1.5, 1.5, 1.5)),
        Ratio(PROCESSOR, one, Figure(6.0, 6.0, 6.0)),
        Ratio(ONE_ENGINE, one, Figure(3.0, 2.0, 4.0)),
        Ratio(TWO_ONE, two, Figure(2.0, 2.0, 4.0)),
        Ratio("documents/s, two workers : ddp float32", two, Figure(3.0, 2.0, 8.0)),
    ]


def test_a_figure_shows_its_spread() -> None:
    figure = Figure.of([0.001, 0.003, 0.0012])
    assert figure == Figure(0.0012, 0.001, 0.003)
    assert spread(figure) == "1,200 (1,000..3,000)"
    with pytest.raises(ValueError, match="nothing was measured"):
        Figure.of([])


def test_a_row_shows_what_was_measured_beside_the_system() -> None:
    cell, other = Cell(2, 32, 16), Cell(4, 32, 16)
    table = speeds(
        [
            *measured(ENGINE, Cell(1, 32, 16), 0.00011),
            *measured(COMPUTING, cell, 0.00022, 0.00044, 0.00033),
            *measured(SYSTEM, cell, 0.00055),
            *measured("ddp float64", cell, 0.00066),
            *measured(SYSTEM, other, 0.0008),
        ]
    )
    console = Console(width=150, record=True, file=StringIO())
    console.print(table)
    lines = [line for line in console.export_text().splitlines() if line.startswith("│")]
    rows = [[text.strip() for text in line.strip("│").split("│")] for line in lines]
    numbers = ["16", "32", "2", "550", "58,182", "330", "", "110", "660"]
    assert rows == [
        numbers,
        ["", "", "", "550..550", "", "220..440", "", "110..110", "660..660"],
        ["16", "32", "4", "800", "40,000", "", "", "", ""],
        ["", "", "", "800..800", "", "", "", "", ""],
    ]


def test_steps_count_once_all_workers_are_there() -> None:
    alone = [{"step": step, "workers": 1} for step in range(1, 21)]
    together = [{"step": step, "workers": 2} for step in range(21, 41)]
    assert [record["step"] for record in counted(alone + together, 2)] == [*range(23, 41)]


def test_a_bare_loop_that_loses_a_process_ends(lab: Lab) -> None:
    task = {"model": GPTConfig(27).to_dict(), "data": "embedded", "workers": 2}
    timing = {"batches": [4], "seconds": PATIENCE}
    (lab.place / "task.json").write_text(json.dumps({**task, **timing}))
    command = shlex.join(isolated("lab.bench.bare_loop"))
    loop = lab.start("sh", "-c", f"exec {command} < task.json", name="loop")
    loop.expected = True
    children = Path(f"/proc/{loop.pid}/task/{loop.pid}/children")
    started = eventually(lambda: children.read_text().split()[1:], "both are started")
    os.kill(int(started[0]), signal.SIGKILL)
    assert loop.wait() == 1
    assert loop.err == "a process of the bare loop has ended\n"


def test_each_worker_of_the_bare_loop_has_about_one_shard() -> None:
    assert [largest_shard(32, workers) for workers in (1, 2, 3, 4, 64)] == [32, 16, 8, 8, 1]


@pytest.mark.parametrize("peer", ["torch", *map(soak, ("c", "c=", "ddp=x"))])
def test_an_unknown_peer_is_refused(lab: Lab, peer: str) -> None:
    bench = lab.script("bench", "whole", "--peer", peer)
    bench.expected = True
    assert bench.wait() == 2
    assert bench.err.endswith(f"'{peer}' is neither ddp nor c=FILE.c\n")
    assert bench.err.count("\n") == 1


def test_a_peer_that_cannot_be_installed_is_a_peer_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.bench.peers import install

    (tmp_path / "file").touch()
    monkeypatch.setattr(install, "cache_folder", lambda: tmp_path / "file")
    with pytest.raises(install.PeerError, match=r"with_ddp.py did not run: .*file"):
        install.run_peer("torch", {}, "with_ddp.py")
    assert os.listdir(tmp_path) == ["file"]
