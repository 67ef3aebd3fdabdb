"""The block at the bottom of a terminal: whatever happens to the terminal, there is one of it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from coordinator.run.screen import Screen
from microgpt.support import cli
from tests.terminals import Terminal

BLOCK = [f"bar {'=' * 76}", "loss 2.1", "", "worker-1  computing", "worker-2  computing"]
WARNING = (
    "warning: worker-1 is gone: its connection has closed; its 2 unfinished shards go to others"
)


class Wire(io.StringIO):
    """Stands for stdout on a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def write(self, text: str) -> int:
        self.terminal.write(text)
        return len(text)

    def isatty(self) -> bool:
        return True


class Play:
    """A screen and the terminal that it draws on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        monkeypatch.setenv("TERM", "xterm")

    def terminal(self, columns: int, lines: int, *, reflows: bool = True) -> Terminal:
        terminal = Terminal(columns, lines, reflows=reflows)
        self.patch.setattr(sys, "stdout", Wire(terminal))
        self.patch.setattr(sys, "stderr", Wire(terminal))
        self.patch.setattr(Screen, "size", lambda _: (terminal.columns, terminal.lines))
        return terminal


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    yield Play(monkeypatch)
    cli.expect_block(False)


def cut(columns: int) -> list[str]:
    return [line[:columns] for line in BLOCK]


@pytest.mark.parametrize("lines", [24, 8])
def test_lines_that_wrap_stay_above_one_block(play: Play, lines: int) -> None:
    terminal, screen = play.terminal(80, lines), Screen()
    for _ in range(3):
        screen.draw(BLOCK)
        screen.say(WARNING)
        screen.draw(BLOCK)
    expected = [WARNING[:80], WARNING[80:]] * 3 + BLOCK
    assert terminal.history == [*expected[:-5], *cut(80)]
    assert not terminal.cursor
    screen.close()
    assert terminal.history == [*expected[:-5], *cut(80)]
    assert (terminal.row, terminal.column) == (len(terminal.history), 0), "a prompt is not glued on"
    assert terminal.cursor
    assert terminal.wraps


@pytest.mark.parametrize("reflows", [True, False])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("size", [(60, 24), (30, 24), (120, 30), (80, 12), (50, 10)])
def test_resizing_leaves_one_block(
    play: Play, reflows: bool, full: bool, size: tuple[int, int]
) -> None:
    terminal, screen = play.terminal(80, 24, reflows=reflows), Screen()
    for number in range(40 if full else 3):
        screen.say(f"line {number}")
    screen.draw(BLOCK)
    terminal.resize(*size)
    screen.draw(BLOCK)
    shown = terminal.screen
    assert shown[-5:] == cut(size[0])
    assert all(row.startswith("line ") for row in shown[:-5])
    assert [row for row in terminal.history if row.startswith("line ")] == [
        f"line {number}" for number in range(40 if full else 3)
    ]


def test_a_size_that_changes_while_we_draw_leaves_one_block(play: Play) -> None:
    terminal, screen = play.terminal(80, 24), Screen()
    screen.draw(BLOCK)
    terminal.resize(40, 24)
    screen.draw(BLOCK)  # made for 80 columns
    screen.draw(cut(40))
    assert terminal.history == cut(40)


def test_more_lines_than_rows_are_cut(play: Play) -> None:
    terminal, screen = play.terminal(80, 3), Screen()
    for _ in range(3):
        screen.draw(BLOCK)
    assert terminal.history == cut(80)[:2]


def test_a_block_that_shrinks_leaves_nothing(play: Play) -> None:
    terminal, screen = play.terminal(80, 24), Screen()
    screen.draw(BLOCK)
    screen.draw(BLOCK[:2])
    assert [row for row in terminal.history if row] == cut(80)[:2]


def test_other_lines_of_this_process_erase_the_block(play: Play) -> None:
    terminal, screen = play.terminal(80, 24), Screen()
    screen.draw(BLOCK)
    cli.say("warning: the disk is full", error=True)
    screen.draw(BLOCK)
    assert terminal.history == ["warning: the disk is full", *cut(80)]


def test_a_killed_process_leaves_no_block_and_no_hidden_cursor(play: Play) -> None:
    terminal = play.terminal(80, 24)
    Screen().draw(BLOCK)
    cli.expect_block(True)  # as the supervisor does, whose child it was
    cli.clear_block()
    cli.say("the coordinator was killed (SIGKILL); starting it again", error=True)
    assert terminal.cursor
    Screen().draw(BLOCK)
    assert terminal.history == [
        "the coordinator was killed (SIGKILL); starting it again",
        *cut(80),
    ]
