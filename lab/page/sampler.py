"""What the model of a run invents as it learns, and the digests of its states, of its checkpoints.

In a thread of its own, and only while somebody watches: samples are made in plain Python. There are
few: of a run that is looked at late those of some checkpoints over its length, and then whenever it
has come half as far again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lab.page.feed import Feed
from lab.page.follower import Follower
from lab.page.standing import OVER_PHASES
from microgpt.checkpoint.format import Checkpoint, CheckpointError, load
from microgpt.checkpoint.newest import NEWEST, step_path, stored_steps
from microgpt.sampling import generate

MANY = 6  # documents of a checkpoint
MOST_PARAMETERS = 50_000  # larger models are slow in plain Python
MOST_EARLIER = 4  # checkpoints of a run that is looked at late
PAUSE = 2.0  # seconds between two looks at the checkpoints
FURTHER = 1.5  # times as many steps as before, for another sample


class Look(NamedTuple):
    """What there is to tell: the newest state, samples of a step, or why there are none."""

    state: tuple[int, str] | None = None
    sample: tuple[int, list[str]] | None = None
    remark: str = ""


class Sampler:
    """Looks at the checkpoints of the run in ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None  # of the newest one's file
        self._newest: Checkpoint | None = None
        self._sampled: int | None = None  # the last step of which there is a sample
        self._earlier: list[int] | None = None  # those that are still to be sampled

    def look(self, run: str, *, over: bool) -> Look:
        """What is new. ``run``: the id of the run, to which checkpoints must belong."""
        changed = self._read_newest(run)
        if self._newest is None:
            return Look()
        state = (self._newest.step, self._newest.state_sha256) if changed else None
        if self._newest.num_params > MOST_PARAMETERS:
            many = f"the model has {self._newest.num_params:,} parameters"
            return Look(state, remark=f"{many}: sample it with microgpt sample")
        wanted = self._wanted(run, over=over)
        if wanted is None:
            return Look(state)
        self._sampled = wanted.step
        try:
            return Look(state, (wanted.step, invent(wanted)))
        except (ArithmeticError, ValueError):
            return Look(state, remark=f"the model's numbers overflow after step {wanted.step:,}")

    def state(self, run: str) -> Look:
        """The newest state alone."""
        self._read_newest(run)
        newest = self._newest
        return Look((newest.step, newest.state_sha256) if newest is not None else None)

    def _read_newest(self, run: str) -> bool:
        """Whether there is another newest checkpoint than the last time."""
        path = self._path / NEWEST
        try:
            status = path.stat()
            seen = status.st_ino, status.st_mtime_ns
            if seen == self._seen:
                return False
            loaded = load(path)
        except (OSError, CheckpointError):
            return False
        self._seen = seen
        if loaded.run != run:
            return False
        self._newest = loaded
        return True

    def _wanted(self, run: str, *, over: bool) -> Checkpoint | None:
        """The checkpoint to sample from now, if there is one."""
        newest = self._newest
        if newest is None:
            return None
        if self._earlier is None:
            self._earlier = earlier(self._stored(newest.step))
        while self._earlier:
            step = self._earlier.pop(0)
            try:
                loaded = load(step_path(self._path, step))
            except CheckpointError:
                continue
            if loaded.run == run:
                return loaded
        if newest.step == self._sampled or newest.step == 0:
            return None
        last = self._sampled if self._sampled is not None else 0
        return newest if over or newest.step >= FURTHER * last or newest.step < last else None

    def _stored(self, until: int) -> list[int]:
        try:
            return sorted(step for step in stored_steps(self._path) if 0 < step < until)
        except OSError:
            return []


def earlier(steps: Sequence[int]) -> list[int]:
    """A few of these steps, closer to each other where a model learns most: at the beginning."""
    found: list[int] = []
    for power in range(MOST_EARLIER, 0, -1):
        aim = steps[-1] / 4 ** (power - 1) if steps else 0
        nearest = min(steps, key=lambda step: abs(step - aim), default=None)
        if nearest is not None and nearest not in found:
            found.append(nearest)
    return sorted(found)


def invent(checkpoint: Checkpoint) -> list[str]:
    """Documents that continue the generator of a checkpoint. Raises ArithmeticError, ValueError."""
    model, tokenizer = checkpoint.training.model, checkpoint.tokenizer
    state, rng = checkpoint.state_dict(), checkpoint.rng()
    return [*generate(state, model, tokenizer, rng, num_samples=MANY)]


async def sample(feed: Feed) -> None:
    """Put what is new on the board, as long as the feed lasts."""
    sampler, thread = Sampler(feed.follower.path), ThreadPoolExecutor(1, "sampler")
    loop = asyncio.get_running_loop()
    while not feed.closed:
        if feed.viewers:
            board = feed.follower.board
            run, over = board.run.get("id", ""), board.standing.phase(1) in OVER_PHASES
            found = await loop.run_in_executor(thread, partial(sampler.look, run, over=over))
            if found != Look():
                await feed.on_board(partial(show, feed.follower, found))
        await feed.pause(PAUSE)


async def look_once_more(feed: Feed) -> None:
    """Put the digest of the last state on the board, as the run is over."""
    if feed.viewers:
        follower = feed.follower
        run = follower.board.run.get("id", "")
        found = await asyncio.to_thread(Sampler(follower.path).state, run)
        await feed.on_board(partial(show, follower, found))


def show(follower: Follower, look: Look) -> None:
    """Put what was found on the board."""
    board = follower.board
    if look.state is not None:
        board.standing.checkpoint = look.state
    if look.sample is not None:
        board.add_sample(*look.sample)
    board.standing.samples_remark = look.remark or board.standing.samples_remark
