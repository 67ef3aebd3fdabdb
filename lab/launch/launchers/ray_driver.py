"""``python -m lab.launch.launchers.ray_driver``: a launcher's hand in a Ray cluster.

A process of its own, because Ray ends the process that uses it once it has lost its cluster. Ray
ends what a driver has started when the driver ends, however that comes; so nothing is left when
this process and the launcher are killed. It ends when the launcher hangs up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lab.launch.launchers.base import worker_name
from lab.launch.launchers.ray_pool import (
    Action,
    Ask,
    Dead,
    Pool,
    Remove,
    Replace,
    SendHome,
    Start,
    TellRoom,
    Unavailable,
)
from lab.launch.launchers.ray_wire import Order, Wire, remove_folder
from lab.launch.launchers.ray_worker import Report
from microgpt.support import cli, signals
from microgpt.support.cli import UserError

if TYPE_CHECKING:
    from lab.launch.launchers.ray_api import RayCluster

LOOK_SECONDS = 0.1  # between looks at what has come
REACH_SECONDS = 5.0
LEAVE_SECONDS = 0.9  # for a worker to end by itself
MOMENT_SECONDS = 0.5


@click.command()
@click.option("--announce", type=int, required=True)
@click.option("--wire", type=int, required=True)
def main(announce: int, wire: int) -> None:
    """Do what the launcher at the other end of a socket wants."""
    signals.leave_quietly()
    os.setpgid(0, 0)  # Ctrl-C is for the launcher, which hangs up when the run has ended
    ours = Wire(socket.socket(fileno=wire))
    ours.listen()
    first = ours.lines.get()
    if first is not None:
        serve(Order.read(first), ours, announce)


def serve(order: Order, wire: Wire, announce: int) -> None:
    """Find the cluster, and have the workers there until the launcher hangs up."""
    from lab.launch.launchers.ray_api import RayCluster  # it takes time, and Ray

    try:
        check_reachable(order.address)
        folder, cpus = order.folder, max(order.count * order.cpus, os.cpu_count() or 1)
        with contextlib.closing(RayCluster(order.address, cpus=cpus, folder=folder)) as cluster:
            with contextlib.suppress(OSError):
                os.write(announce, f"{cluster.address}\n".encode())
                os.close(announce)
            Driver(cluster, order, wire).run()
    except UserError as error:
        wire.tell(failed=str(error))
    finally:
        remove_folder(order.folder)


def check_reachable(address: str) -> None:
    """Raise UserError if nobody listens at HOST:PORT. Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}") from error


class Driver:
    """Performs what the pool decides, and tells the launcher of it."""

    def __init__(self, cluster: RayCluster, order: Order, wire: Wire) -> None:
        self._cluster, self._order, self._wire = cluster, order, wire
        self._pool = Pool()
        self._actors: dict[int, Any] = {}
        self._told: Any = None

    def run(self) -> None:
        """Until the launcher hangs up."""
        order = self._order
        for name in self._cluster.remove_others(f"{order.owner}/", f"{order.epoch}/"):
            self._wire.tell(say=f"an earlier launch of this run has left {name}; it is removed")
        self._perform(self._pool.scale(order.count, time.monotonic()))
        while self._obey():
            self._perform(self._pool.due(time.monotonic()))
            answers = list(self._cluster.answers(LOOK_SECONDS))
            if any(isinstance(answer, Dead) for _, answer in answers):
                self._check_node()
            for number, answer in answers:
                self._hear(number, answer)
            self._tell()
        self._end()

    def _check_node(self) -> None:
        """Raise UserError if Ray has lost the node through which we use the cluster."""
        if not self._cluster.has_us():
            raise UserError("its node of the Ray cluster has died")

    def _obey(self) -> bool:
        """Do what the launcher has asked for. Returns whether it is still there."""
        while not self._wire.lines.empty():
            line = self._wire.lines.get()
            if line is None:
                return False
            if "scale" in line:
                self._perform(self._pool.scale(line["scale"], time.monotonic()))
            elif "restart" in line:
                self._pool.restart_all(time.monotonic() + line["restart"])
            elif "leave" in line:
                self._perform(self._pool.scale(0, time.monotonic()))
        return True

    def _hear(self, number: int, answer: Report | Unavailable | Dead) -> None:
        now = time.monotonic()
        if isinstance(answer, Report):
            if answer.output:
                text = answer.output.decode(errors="replace")
                self._wire.tell(output={"name": worker_name(number), "text": text})
            self._perform(self._pool.reported(number, answer, now))
        elif isinstance(answer, Unavailable):
            self._perform(self._pool.unavailable(number, now))
        else:
            self._perform(self._pool.dead(number, answer.why))

    def _tell(self) -> None:
        for line in self._pool.lines:
            self._wire.tell(say=line)
        self._pool.lines.clear()
        handles = [asdict(handle) for handle in self._pool.handles]
        if handles != self._told:
            self._told = handles
            self._wire.tell(workers=handles)
            if self._pool.exhausted is not None:
                self._wire.tell(exhausted=self._pool.exhausted)

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, TellRoom):
                self._tell_room(action)
            elif isinstance(action, Start):
                self._start(action.number)
            elif isinstance(action, Ask):
                actor = self._actors[action.number]
                self._cluster.ask(actor, action.number, action.seen, action.ready)
            elif isinstance(action, SendHome):
                self._cluster.send_home(self._actors[action.number], LEAVE_SECONDS)
            elif isinstance(action, Replace):
                self._cluster.restart(self._actors[action.number])
            elif isinstance(action, Remove):
                self._cluster.remove(self._actors.pop(action.number))

    def _start(self, number: int) -> None:
        order, member = self._order, self._pool.members[number]
        self._actors[number] = self._cluster.create(
            f"{order.epoch}/{member.name}",
            [*order.flags, "--name", member.name],
            order.keys,
            order.cpus,
            order.resources,
        )

    def _tell_room(self, action: TellRoom) -> None:
        if not action.waiting:
            self._wire.tell(say="every worker has found room on the Ray cluster")
            return
        there, free = self._cluster.cpus()
        each = f"{self._order.cpus} for each worker"
        if self._order.resources:
            each += (
                f", and {', '.join(f'{n:g} {name}' for name, n in self._order.resources.items())}"
            )
        text = f"{action.waiting} of {action.workers} workers wait for room on the Ray cluster"
        self._wire.tell(say=f"{text}: it has {there:g} CPUs, {free:g} of them free, {each}")

    def _end(self) -> None:
        """Send home who is still there."""
        self._perform(self._pool.scale(0, time.monotonic()))
        self._cluster.wait_until_left(LEAVE_SECONDS + MOMENT_SECONDS)
        for number, answer in self._cluster.answers(LOOK_SECONDS):
            self._hear(number, answer)
        self._tell()
        for number in list(self._actors):
            self._perform([Remove(number)])


if __name__ == "__main__":
    cli.run(main, prog_name="the driver of Ray")
