"""How long a page is served: until a process ends, or for a while after the run has ended."""

from __future__ import annotations

import asyncio
import os
import time
from typing import NamedTuple

from lab.page.feed import Feed
from lab.report.ending import is_owned

PARENT_POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0
BEGIN_SECONDS = 60.0  # in which a run must begin, if a page is to end with it


class Until(NamedTuple):
    """``parent``: a process, 0 for none. ``linger``: seconds after the run, None for ever."""

    parent: int = 0
    linger: float | None = None


async def wait(until: Until, feed: Feed, ended: asyncio.Event) -> None:
    """Set ``ended`` when the time has come; a signal may do so before."""
    waiting = []
    if until.parent:
        waiting.append(_parent_ends(until.parent))
    if until.linger is not None:
        waiting.append(_run_ends(until.linger, feed))
    if waiting:
        tasks = [asyncio.create_task(each) for each in waiting]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended.set()


async def _parent_ends(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_POLL_SECONDS)


async def _run_ends(linger: float, feed: Feed) -> None:
    """Until nobody has written to the run, nor watched, for so long."""
    last, patience = time.monotonic(), max(linger, BEGIN_SECONDS)
    while time.monotonic() - last < patience:
        if is_owned(feed.follower.path):
            last, patience = time.monotonic(), linger
        elif feed.viewers:
            last = time.monotonic()
        await asyncio.sleep(min(LOOK_SECONDS, linger))
