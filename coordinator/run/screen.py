"""The bottom of a terminal: a block of lines drawn over and over, below lines that stay.

After every drawing the cursor rests at the block's upper left corner. So whoever writes next, be it
another process, gets rid of the block by erasing from there to the end of the screen, and neither
a line that wraps, nor a terminal that breaks lines anew when it is resized, nor the death of this
process leaves a part of the block behind: nobody needs to know how many rows it had.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from microgpt.support import cli

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor
CUT, WRAP = "\x1b[?7l", "\x1b[?7h"  # what lines do that are too long
ERASE_LINE = "\x1b[2K"
ERASE_BELOW = "\x1b[J"


class Screen:
    """Draws on stdout. Nobody there to look (a closed terminal) is no error."""

    def __init__(self) -> None:
        self._block: list[str] = []
        self._begun = False

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal as it is now; else what the environment says."""
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
            if columns and rows:
                return columns, rows
        fallback = shutil.get_terminal_size()
        return fallback.columns, fallback.lines

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the last ones. Those beyond the screen's height are cut."""
        self._block = list(lines[: self.size()[1] - 1])
        if not self._begun:
            self._begun = True  # not before now: only a proper end brings the cursor back
            cli.expect_block(True)
            self._write(HIDE)
        self._write(self._drawn())

    def say(self, text: str) -> None:
        """Add a line that stays, above the block."""
        erased = f"\r{ERASE_BELOW}" if self._begun else ""
        self._write(f"{erased}{text}\n{self._drawn() if self._block else ''}")

    def close(self) -> None:
        """Leave the block where it is, and the cursor below it."""
        if self._begun:
            self._begun = False
            cli.expect_block(False)
            self._write("\n" * len(self._block) + SHOW)
            self._block = []

    def _drawn(self) -> str:
        """The block, from where the cursor is, and back."""
        *above, last = self._block or [""]
        lines = "".join(f"{ERASE_LINE}{line}\n" for line in above)
        back = f"\x1b[{len(above)}A" if above else ""
        return f"\r{CUT}{lines}{ERASE_BELOW}{last}{WRAP}\r{back}"

    def _write(self, text: str) -> None:
        with suppress(OSError):
            sys.stdout.write(text)
            sys.stdout.flush()
