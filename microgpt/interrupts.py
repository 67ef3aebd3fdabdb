"""Ctrl-C while a program is still importing, or ends: no traceback. Imports nothing slow."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_quietly() -> None:
    """Until somebody handles SIGINT and SIGTERM better, they end the process with 130 and 143."""
    for number in SIGNALS:
        signal.signal(number, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def held_back() -> Iterator[None]:
    """A process started here gets no signal before it calls ``leave_quietly``.

    Python itself takes a moment to start, and would show a traceback of its own modules.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore() -> None:
    """From here on the process ends by itself: a second Ctrl-C has nothing to add.

    Python would answer it with a traceback while it closes down.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # there is nothing to save yet
