"""Terminals for tests: a model of one, and a real one (tmux)."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

TOKEN = re.compile(r"\x1b\[(\?)?([0-9;]*)([A-Za-z])|(.)", re.DOTALL)


class Terminal:
    """What a terminal of this size shows of what is written to it.

    ``reflows``: whether lines that had wrapped are broken anew when the width changes, and longer
    ones then wrap. Most terminals do that; xterm cuts.
    """

    def __init__(self, columns: int, lines: int, *, reflows: bool = True) -> None:
        self.columns, self.lines, self.reflows = columns, lines, reflows
        self.rows: list[str] = [""]  # all that ever was, the screen at the end
        self.soft: set[int] = set()  # rows that go on in the next
        self.row = self.column = 0
        self.wraps = self.cursor = True

    @property
    def top(self) -> int:
        """The first row on the screen."""
        return max(0, len(self.rows) - self.lines)

    @property
    def screen(self) -> list[str]:
        """The rows that are seen, without blanks at their ends and at the end."""
        return _trimmed(self.rows[self.top :])

    @property
    def history(self) -> list[str]:
        """The same of everything, also what has been scrolled away."""
        return _trimmed(self.rows)

    def write(self, text: str) -> None:
        """Obey."""
        for private, numbers, command, char in TOKEN.findall(text):
            if char:
                self._put(char)
            elif private:
                self._mode(numbers, command == "h")
            elif command == "A":
                self.row = max(self.top, self.row - int(numbers or 1))
            elif command in "JK":
                self._erase(command, numbers)
            else:
                assert command == "m", f"unknown: {command}"

    def resize(self, columns: int, lines: int) -> None:
        """Take another size."""
        if self.reflows and columns != self.columns:
            self._reflow(columns)
        self.columns, self.lines = columns, lines
        while len(self.rows) > self.row + 1 and len(self.rows) > lines:
            self.rows.pop()  # what is below the cursor goes first, as tmux and xterm do it
        self.row = max(self.row, self.top)

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.column = 0  # as the terminal's driver turns it into both
            self._down()
        else:
            if self.column == self.columns and self.wraps:
                self.soft.add(self.row)
                self.column = 0
                self._down()
            place = min(self.column, self.columns - 1)
            row = self.rows[self.row].ljust(place)
            self.rows[self.row] = row[:place] + char + row[place + 1 :]
            self.column = place + 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")

    def _mode(self, number: str, on: bool) -> None:
        if number == "7":
            self.wraps = on
        else:
            assert number == "25", f"unknown mode: {number}"
            self.cursor = on

    def _erase(self, command: str, numbers: str) -> None:
        place = 0 if numbers == "2" else self.column
        self.rows[self.row] = self.rows[self.row][:place]
        if command == "J":
            del self.rows[max(self.row + 1, len(self.rows)) :]
            for below in range(self.row + 1, len(self.rows)):
                self.rows[below] = ""

    def _reflow(self, columns: int) -> None:
        rows: list[str] = []
        soft: set[int] = set()
        cursor, line, at = (0, 0), "", None
        for number, text in enumerate(self.rows):
            if number == self.row:
                at = len(line) + self.column
            line += text
            if number in self.soft and number + 1 < len(self.rows):
                continue
            line = line.rstrip()
            if at is not None:
                cursor, at = (len(rows) + at // columns, at % columns), None
            pieces = [line[i : i + columns] for i in range(0, len(line), columns)] or [""]
            soft |= set(range(len(rows), len(rows) + len(pieces) - 1))
            rows += pieces
            line = ""
        self.rows, self.soft, (self.row, self.column) = rows, soft, cursor


def _trimmed(rows: list[str]) -> list[str]:
    return "\n".join(row.rstrip() for row in rows).rstrip("\n").split("\n")


class Tmux:
    """A command in a real terminal."""

    def __init__(self, place: Path, columns: int, lines: int) -> None:
        self._socket = str(place / "tmux")
        size = ["-x", str(columns), "-y", str(lines)]
        self._do("-f", os.devnull, "new-session", "-d", *size, "-c", str(place), "sh")
        self._do("set-option", "-g", "history-limit", "5000")

    @staticmethod
    def missing() -> bool:
        """Whether there is no tmux here."""
        return shutil.which("tmux") is None

    def run(self, *command: str, **environment: str) -> None:
        """Type a command and enter it."""
        clean = [
            "env",
            "-u",
            "COLUMNS",
            "-u",
            "LINES",
            *(f"{k}={v}" for k, v in environment.items()),
        ]
        self._do("send-keys", "-l", f"clear; {shlex.join([*clean, *command])}")
        self._do("send-keys", "Enter")

    def type(self, keys: str) -> None:
        """Type letters, and nothing more."""
        self._do("send-keys", "-l", keys)

    def resize(self, columns: int, lines: int) -> None:
        """Take another size."""
        self._do("resize-window", "-x", str(columns), "-y", str(lines))

    @property
    def screen(self) -> list[str]:
        """The rows that are seen."""
        return self._do("capture-pane", "-p").splitlines()

    def find(self, *arguments: str) -> int:
        """The newest process in it whose command line has these arguments next to each other."""
        shell = self._do("display-message", "-p", "#{pane_pid}").strip()
        found, unseen = [], [shell]
        while unseen:
            task = Path("/proc") / unseen.pop()
            with contextlib.suppress(OSError):  # it has ended meanwhile
                unseen += (task / "task" / task.name / "children").read_text().split()
                words = (task / "cmdline").read_bytes().decode().split("\0")
                if any(tuple(words[i:])[: len(arguments)] == arguments for i in range(len(words))):
                    found.append(int(task.name))
        assert found, f"no process with {arguments}"  # never 0, which means ourselves to os.kill
        return max(found)

    def close(self) -> None:
        """End it, and what runs in it."""
        self._do("kill-server")

    def _do(self, *command: str) -> str:
        done = subprocess.run(
            [str(shutil.which("tmux")), "-S", self._socket, *command],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout
