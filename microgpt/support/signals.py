"""Ctrl-C while a program is still importing, or ends: no traceback. Imports nothing slow."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: What ends a program: Ctrl-C, a polite kill, and the end of its terminal, unless somebody wants
#: the program to outlive that (nohup).
SIGNALS = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)


def leave_quietly() -> None:
    """Until somebody handles these signals better, they end the process with 128 + their number."""
    for number in SIGNALS:
        signal.signal(number, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def answer_as_usual() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, and the other signals end the process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)


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
