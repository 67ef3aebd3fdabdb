"""Which console a run has."""

from __future__ import annotations

import sys

from coordinator.run.console import Console, PlainConsole


def make_console(total_steps: int, first_step: int, quiet: bool) -> Console:
    """The live view where stdout is a terminal, else plain lines."""
    if sys.stdout.isatty() and not quiet:
        # Not at the top: a program that draws nothing starts faster without what draws.
        from coordinator.run.live_console import LiveConsole, can_be_drawn_on

        if can_be_drawn_on():
            return LiveConsole(total_steps, first_step)
    return PlainConsole(total_steps, quiet)
