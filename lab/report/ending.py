"""How a run ended, or that it has not: by the last lines of its events and the lock on its folder.

A coordinator holds the lock as long as it lives (``coordinator/run/directory_owner.py``). Whoever
has gone without the event ``finished`` was killed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import NamedTuple

from coordinator.core.event_json import EventError, from_json
from coordinator.core.events import Event, Finished, Outcome, Started
from lab.event_reader import FILE

MOST_TAIL = 1 << 18  # bytes from the end of the events: ``finished`` is the last or nearly so
WORDS = {Outcome.DONE: "finished", Outcome.STOPPED: "stopped", Outcome.FAILED: "failed"}
KINDS = (b'{"kind": "started"', b'{"kind": "finished"')  # as events are written


class Ending(NamedTuple):
    """``how``: finished, stopped, failed, killed, running, or unknown. ``reason``: for people."""

    how: str
    reason: str = ""


def read_ending(run_dir: Path) -> Ending:
    """How the run's last epoch ended. Never raises."""
    try:
        last = _last_sign(run_dir / FILE)
    except (OSError, EventError) as error:
        return Ending("running") if is_owned(run_dir) else Ending("unknown", str(error))
    if isinstance(last, Finished):
        return Ending(WORDS[last.outcome], last.reason)
    return Ending("running") if is_owned(run_dir) else Ending("killed")


def is_owned(run_dir: Path) -> bool:
    """Whether somebody is writing to the directory. What is asked for is given back at once."""
    try:
        descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # of file systems without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _last_sign(file: Path) -> Event | None:
    """The last ``started`` or ``finished`` among the last lines. Raises OSError or EventError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise EventError("its events are not a file")
        opened.seek(max(0, status.st_size - MOST_TAIL))
        lines = opened.read(MOST_TAIL).split(b"\n")[:-1]  # without what is half written
    if not lines:
        raise EventError("it has no events")
    for line in reversed(lines):
        if line.startswith(KINDS):
            event = from_json(line).event
            if isinstance(event, Started | Finished):
                return event
    return None
