"""The time in which a program only imports: nothing becomes garbage, so nobody looks for any.

Python looks through all objects again and again while thousands are made, and once more for each
module when it ends: a quarter of what a start and an end take. Imports nothing slow.
"""

from __future__ import annotations

import gc


def begins() -> None:
    """A program begins to import what it needs."""
    gc.disable()


def is_over() -> None:
    """All is imported. From here on garbage is collected, but not looked for in what is there."""
    gc.freeze()
    gc.enable()
