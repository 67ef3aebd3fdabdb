"""Child processes: started, watched, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from lab.launch.channel import Asked, Gone
from microgpt.support import signals


@dataclass
class Child:
    """A process of ours. ``number`` is 0 for the coordinator, from 1 on for workers."""

    number: int
    process: subprocess.Popen[bytes]
    watcher: threading.Thread | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return f"worker-{self.number}" if self.number else "the coordinator"


@dataclass(frozen=True)
class AtWork:
    """A child has begun to work; the coordinator tells its address with it."""

    child: Child
    text: str


#: A child in the queue has ended; None wakes whoever waits.
News: TypeAlias = AtWork | Child | Asked | Gone | None
NewsQueue: TypeAlias = queue.SimpleQueue[News]


def start(
    number: int,
    command: Callable[[int], list[str]],
    log: BinaryIO | None,
    passed: Iterable[int],
    news: NewsQueue,
) -> Child:
    """Start a child whose fate is told in ``news``. Raises OSError.

    ``command`` makes its command line from the descriptor on which it announces that it works.
    It gets this one and those in ``passed``; ``log`` takes its output, if it is not None.
    """
    reading, writing = os.pipe()
    try:
        with signals.held_back():
            process = subprocess.Popen(  # noqa: S603  # our own modules
                command(writing),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writing, *passed),
            )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    child = Child(number, process)
    child.watcher = threading.Thread(target=_watch, args=(child, reading, news), daemon=True)
    child.watcher.start()
    return child


def _watch(child: Child, reading: int, news: NewsQueue) -> None:
    with open(reading, "rb") as pipe:
        line = pipe.readline()
    if line.endswith(b"\n"):
        news.put(AtWork(child, os.fsdecode(line[:-1])))
    child.process.wait()
    news.put(child)


def ask_to_leave(children: Iterable[Child]) -> None:
    """As Ctrl-C would."""
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGINT)


def wait(children: Iterable[Child], until: float) -> None:
    """Wait until all of them have ended or the time of the monotonic clock is there."""
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, until - time.monotonic()))


def kill(children: Iterable[Child]) -> bool:
    """End those that still run; whether there were any."""
    running = [child for child in children if child.process.poll() is None]
    for child in running:
        child.process.kill()
    for child in running:
        child.process.wait()
    return bool(running)
