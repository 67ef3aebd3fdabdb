"""A training in a real terminal: one live view on the screen, whatever happens to it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from tests.processes import ROOT, TINY, Lab, eventually
from tests.terminals import Tmux

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(Tmux.missing(), reason="there is no tmux here"),
]
BAR = re.compile(r"step [\d,]+ / 1,000,000 \S*━+")
HEADINGS = re.compile(r"worker +engine +state +documents")


@pytest.fixture
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    terminal = Tmux(tmp_path_factory.mktemp("t"), 80, 24)
    try:
        yield terminal
    finally:
        terminal.close()


def train(lab: Lab, tmux: Tmux) -> None:
    flags = (
        *TINY,
        "--steps",
        "1000000",
        "--data",
        str(lab.data),
        "--run-dir",
        str(lab.place / "r"),
    )
    kept = {name: lab.env[name] for name in ("MICROGPT_CACHE_DIR", "MICROGPT_COMPILED_DIR")}
    script = str(ROOT / "scripts/train.py")
    tmux.run(sys.executable, script, *flags, "--engine", "scalar", "--workers", "2", **kept)


def shows_one_view(tmux: Tmux, text: str) -> bool:
    """The text, and below it a view of two workers at work, and nothing else of any view."""
    shown = tmux.screen
    bars = [number for number, row in enumerate(shown) if "━" in row]
    tables = [number for number, row in enumerate(shown) if HEADINGS.match(row)]
    if not (len(bars) == len(tables) == 1 and BAR.match(shown[bars[0]])):
        return False
    above, below = shown[: bars[0]], shown[tables[0] + 1 :]
    rows = [row for row in below if row]
    return (
        text in "".join(above)
        and len([row for row in shown if "learning rate" in row]) == 1
        and [row[:9] for row in rows] == ["worker-1 ", "worker-2 "]
        and all("computing" in row for row in rows)
    )


def fits(tmux: Tmux, columns: int) -> bool:
    widths = [len(row) for row in tmux.screen if "━" in row]
    return shows_one_view(tmux, "joined") and widths == [columns]


def test_a_warning_that_wraps_other_sizes_and_a_killed_coordinator(lab: Lab, tmux: Tmux) -> None:
    train(lab, tmux)
    run = lab.run_dir("r")
    run.reaches(1)
    eventually(lambda: shows_one_view(tmux, "has joined"), "the live view")

    os.kill(tmux.find("--name", "worker-1"), signal.SIGKILL)
    run.happens("joined", 3)
    ended = "worker-1 is gone: its connection has closed"
    eventually(lambda: shows_one_view(tmux, ended), "a view below the warning")
    assert any("worker-1 was killed (SIGKILL); starting it again" in row for row in tmux.screen)

    frozen = tmux.find("--name", "worker-2")
    os.kill(frozen, signal.SIGSTOP)
    missed = re.compile(r"worker-2 +scalar +(silent|lost) for \d+ s ")
    eventually(lambda: any(map(missed.match, tmux.screen)), "a row for the one that is silent")
    os.kill(frozen, signal.SIGCONT)
    eventually(lambda: shows_one_view(tmux, "worker-2"), "it is back, and nobody is missed")

    for columns, lines in ((60, 20), (110, 26), (72, 12), (80, 24)):
        tmux.resize(columns, lines)
        eventually(partial(fits, tmux, columns), f"a view of {columns} x {lines}")

    os.kill(tmux.find(str(ROOT), "coordinator"), signal.SIGKILL)
    killed = "the coordinator was killed (SIGKILL); starting it again"
    eventually(lambda: shows_one_view(tmux, killed), "one view after the restart")

    os.kill(tmux.find(str(ROOT / "scripts/train.py")), signal.SIGINT)
    eventually(lambda: "to go on: " in "".join(tmux.screen), "the end")
    shown = [row for row in tmux.screen if row]
    eventually(lambda: re.fullmatch(r"[$#] ?", [r for r in tmux.screen if r][-1]), "a prompt")
    assert len([row for row in shown if "━" in row]) == 1
