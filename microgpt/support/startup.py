"""The time in which a program only imports, made shorter. Imports nothing slow.

Nothing becomes garbage in it, but Python looks for some again and again while thousands of objects
are made, and when it ends: a quarter of what a start and an end take. And NumPy brings a library
that starts threads for products of matrices, of which there are none here.
"""

from __future__ import annotations

import gc
import os


def begins() -> None:
    """A program begins to import what it needs."""
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def is_over() -> None:
    """All is imported. From here on garbage is collected, but not looked for in what is there."""
    gc.freeze()
    gc.enable()
