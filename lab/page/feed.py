"""Messages to any number of viewers, none of whom can hold the others or the run.

There is one list of messages, the newest last; a viewer has only a place in it. Who has fallen
behind what is kept gets a snapshot and goes on from there, so that a viewer that does not read
takes no memory but its connection's. One thread reads the run's files, and makes snapshots.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from lab.page.follower import Follower
from lab.page.plain_json import compact

MOST_VIEWERS = 64
KEPT = 2000  # messages
MOST_AT_ONCE = 1 << 20  # bytes that a viewer is sent in one piece, about
TICK = 0.1  # seconds between two looks at the files while somebody watches
TICK_ALONE = 2.0  # and while nobody does
T = TypeVar("T")


class Feed:
    """The messages of one run. Made, and used, in the thread of the event loop."""

    def __init__(self, follower: Follower, complain: Callable[[str], None]) -> None:
        self.follower = follower
        self.boot = secrets.token_hex(4)
        self.viewers = 0
        self._complain = complain
        self._complained = 0
        self._reader = ThreadPoolExecutor(1, "reader")
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        self._keeping = threading.Lock()  # the number and what is kept change together
        self._number = 0  # of the last message
        self._snapshot: tuple[int, bytes] | None = None
        self._changed = asyncio.Event()
        self._first_viewer = asyncio.Event()  # renewed each time
        self.closed = False
        self.failure: BaseException | None = None  # an error of this program
        self.failed = asyncio.Event()

    # --- the thread that reads -------------------------------------------------------------------

    async def on_board(self, work: Callable[[], T]) -> T:
        """Do something with the board, in the thread that reads."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def _poll(self, watched: bool, last: bool = False) -> None:
        now = time.time()
        follower = self.follower
        if follower.poll(now, watched=watched):
            self._put("snapshot", self._whole(now))
            follower.board.news(now)
        else:
            for name, value in follower.board.news(now, last=last):
                self._put(name, compact(value))
        for text in follower.complaints[self._complained :]:
            self._complain(text)
        self._complained = len(follower.complaints)

    def _put(self, name: str, data: str) -> None:
        framed = self._framed(self._number + 1, name, data)
        with self._keeping:
            self._number += 1
            self._kept.append(framed)

    def _framed(self, number: int, name: str, data: str) -> bytes:
        return f"id: {self.boot}-{number}\nevent: {name}\ndata: {data}\n\n".encode()

    def _whole(self, now: float) -> str:
        whole = {"boot": self.boot, **self.follower.board.snapshot(now)}
        return compact(whole)

    def _make_snapshot(self) -> tuple[int, bytes]:
        """A snapshot, and the number of the last message that it holds."""
        if self._snapshot is None or self._snapshot[0] != self._number:
            framed = self._framed(self._number, "snapshot", self._whole(time.time()))
            self._snapshot = self._number, framed
        return self._snapshot

    async def catch_up(self) -> None:
        """Read all that has been written down so far."""
        await self.on_board(lambda: self._poll(True))
        self._wake()

    # --- the event loop --------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the files until the feed is closed."""
        while not self.closed:
            watched = self.viewers > 0
            before = self._number
            await self.on_board(partial(self._poll, watched))
            if self._number != before:
                self._wake()
            await self.pause(TICK if self.viewers else TICK_ALONE)

    def watch(self, task: asyncio.Task[None]) -> None:
        """Without this task the page would stand still: its error is to end the server."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.failure = self.failure or error
                self.failed.set()

        task.add_done_callback(ended)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the first viewer comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._first_viewer.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def close(self) -> None:
        """Tell what is still to be told; then streams end."""
        await self.on_board(lambda: self._poll(True, last=True))
        self.closed = True
        self._wake()

    def place_of(self, last: str | None) -> int | None:
        """The place of a viewer that has had a message of this id; None if it must begin anew."""
        boot, _, number = (last or "").partition("-")
        if boot != self.boot or not number.isdecimal() or len(number) > 18:
            return None
        place = int(number)
        return place if self._number - len(self._kept) <= place <= self._number else None

    async def stream(self, last: str | None) -> AsyncIterator[bytes]:
        """What a viewer is sent, for ever: what it has missed since the message ``last``."""
        if self.viewers >= MOST_VIEWERS:
            return
        self.viewers += 1
        try:
            if self.viewers == 1:
                came, self._first_viewer = self._first_viewer, asyncio.Event()
                came.set()
                await self.catch_up()  # nobody has looked for a while
            place = self.place_of(last)
            while not self.closed or place != self._number:
                if place is None or place < self._number - len(self._kept):
                    place, framed = await self.on_board(self._make_snapshot)
                    yield framed
                    continue
                changed = self._changed
                if place == self._number:
                    await changed.wait()
                    continue
                place, piece = self._after(place)
                if piece:
                    yield piece
        finally:
            self.viewers -= 1

    def _after(self, place: int) -> tuple[int, bytes]:
        """The messages after a place, and the new place."""
        parts, size = [], 0
        with self._keeping:  # the thread that reads may add one meanwhile
            oldest = self._number - len(self._kept)
            if place < oldest:
                return place, b""  # it has just been dropped: ``stream`` sees that
            for at in range(place - oldest, len(self._kept)):
                parts.append(self._kept[at])
                size += len(parts[-1])
                if size > MOST_AT_ONCE:
                    break
        return place + len(parts), b"".join(parts)
