"""The driver of a Ray launcher without Ray: its actors are objects here, around real workers.

What it does instead of that is named by the cluster's address: ``silent:1`` never finds a cluster,
``no:1`` says that there is none, ``lost:1`` loses it as soon as it is asked to scale.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from lab.launch.launchers.ray_driver import Driver
from lab.launch.launchers.ray_pool import Unavailable
from lab.launch.launchers.ray_wire import Order, Wire
from lab.launch.launchers.ray_worker import Report, WorkerActor
from microgpt.support import signals
from microgpt.support.cli import UserError


class Actor:
    """One that is started again where the real one would be."""

    def __init__(self, flags: list[str], keys: Any) -> None:
        self._made = flags, keys
        self.worker = WorkerActor(*self._made)

    def restart(self) -> None:
        self.remove()
        self.worker = WorkerActor(*self._made)

    def remove(self) -> None:
        self.worker._process.kill()


class FakeCluster:
    """What ``RayCluster`` is, for a cluster of one node with four processors."""

    address = "fake:1"

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32)
        self._asked: dict[Future[Report], tuple[int, Actor, WorkerActor]] = {}
        self._leaving: list[threading.Thread] = []

    def remove_others(self, prefix: str, ours: str) -> list[str]:
        assert ours.startswith(prefix)
        return [f"{prefix}old-1/worker-9"]

    def cpus(self) -> tuple[float, float]:
        return 4.0, 0.0

    def has_us(self) -> bool:
        return True

    def create(self, name: str, flags: list[str], keys: Any, cpus: int, resources: Any) -> Actor:
        return Actor(flags, keys)

    def ask(self, actor: Actor, number: int, seen: int, ready: bool) -> None:
        future = self._threads.submit(actor.worker.report, seen, ready)
        self._asked[future] = number, actor, actor.worker

    def answers(self, seconds: float) -> list[tuple[int, Report | Unavailable]]:
        if not self._asked:
            time.sleep(seconds)
        done, _ = wait(self._asked, seconds)
        found: list[tuple[int, Report | Unavailable]] = []
        for future in done:
            number, actor, asked = self._asked.pop(future)
            found.append((number, future.result() if asked is actor.worker else Unavailable()))
        return found

    def restart(self, actor: Actor) -> None:
        actor.restart()

    def remove(self, actor: Actor) -> None:
        actor.remove()

    def send_home(self, actor: Actor, seconds: float) -> None:
        thread = threading.Thread(target=actor.worker.leave, args=(seconds,))
        thread.start()
        self._leaving.append(thread)

    def wait_until_left(self, seconds: float) -> None:
        for thread in self._leaving:
            thread.join(seconds)


class LostWhenScaled(Driver):
    """Does not survive what it is asked for."""

    def _obey(self) -> bool:
        if not self._wire.lines.empty():
            raise UserError("the cluster is lost")
        return super()._obey()


def main() -> None:
    """As ``ray_driver.main`` does it."""
    signals.leave_quietly()
    given = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    wire = Wire(socket.socket(fileno=given["--wire"]))
    wire.listen()
    first = wire.lines.get()
    assert first is not None
    order = Order.read(first)
    if order.address == "silent:1":
        wire.lines.get()
    elif order.address == "no:1":
        wire.tell(failed="no Ray cluster at no:1: Connection refused")
    else:
        os.write(given["--announce"], b"fake:1\n")
        cluster: Any = FakeCluster()
        kind = LostWhenScaled if order.address == "lost:1" and order.epoch[-1] == "1" else Driver
        try:
            kind(cluster, order, wire).run()
        except UserError as error:
            wire.tell(failed=str(error))
    os._exit(0)  # and nobody waits for threads that ask workers


if __name__ == "__main__":
    main()
