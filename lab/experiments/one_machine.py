"""Simulated runs whose processes share one machine, with what coordination costs there.

Elsewhere in ``lab.simulation`` a coordinator takes no time and everybody has a processor. Here the
processes take of so many processors what ``lab.bench.scale.model`` says that they do: the same
costs, and the same way to share, with the decisions of production in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from coordinator.core import actions
from coordinator.core.state import CoordinatorState
from lab.bench.scale.model import coordinator_of, crowd
from lab.experiments.one_machine_costs import OneMachine
from lab.simulation.clock import Clock
from lab.simulation.network import Connection
from lab.simulation.processes import VirtualCoordinator, VirtualWorker
from lab.simulation.processors import Processors
from microgpt.protocol import messages
from worker.state import Job


class SharedMachine:
    """The processors in virtual time, with so many ``busy`` workers.

    ``costs``: where they take turns. ``slowdown``: how many times as long an engine takes there.
    """

    def __init__(self, clock: Clock, setting: OneMachine, busy: int) -> None:
        crowded = crowd(setting.costs, busy, setting.processors)
        self._clock, self.costs = clock, crowded.applied(setting.costs)
        self.slowdown = crowded.engine * crowded.turns
        self._processors = Processors[int](setting.processors)
        self._work: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._number = 0
        self._node_works = False

    def compute(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call this once so much work is done."""
        self._number += 1
        self._work[self._number] = call, arguments
        self._processors.begin(self._number, seconds)
        self._assign()

    def node_works(self, works: bool) -> None:
        """The coordinator needs a processor from now on, or does not."""
        self._node_works = works
        self._assign()

    def _assign(self) -> None:
        now = self._clock.now
        for number, end in self._processors.assign(now, self._node_works):
            self._clock.after(max(0.0, end - now), self._ended, number, end)

    def _ended(self, number: int, end: float) -> None:
        if self._processors.ended(number, end):
            call, arguments = self._work.pop(number)
            call(*arguments)
            self._assign()


class SharingWorker(VirtualWorker):
    """A worker whose work takes a processor of the machine, and what is done beside the engine.

    One that is to be slow sleeps after its work, as real ones do, and others have the processor.
    """

    def _compute(self, job: Job, seconds: float) -> None:
        machine = self.world.machine  # type: ignore[attr-defined]  # a world of one machine
        engine = seconds / self.slot.machine.slowness  # type: ignore[attr-defined]  # a slot of it
        takes = machine.slowdown * engine + machine.costs.worker
        machine.compute(takes, self._sleep, job, seconds, seconds - engine)

    def _sleep(self, job: Job, seconds: float, left: float) -> None:
        self.clock.after(left, self.deliver, self._computed, job, seconds)


class SharingCoordinator(VirtualCoordinator):
    """A coordinator that does one thing after the other, each for as long as it takes here.

    Answers wait until it takes them in. What it sends, work or weights, goes out one by one.
    """

    idle_seconds = 0.0

    def __init__(self, world: Any, state: CoordinatorState) -> None:
        self._machine: SharedMachine = world.machine
        self._node = coordinator_of(self._machine.costs, world.plan.batch_size)
        #: What it is to do, with the seconds: what has been decided, and what has come in.
        self._decided = deque[tuple[float, Callable[..., None], tuple[Any, ...]]]()
        self._come = deque[tuple[float, Callable[..., None], tuple[Any, ...]]]()
        self._is_working = self._wants_to_look = self._has_looked = False
        self._given = set[bytes]()  # peers who are sent work by what is being decided
        self._machine.node_works(False)
        super().__init__(world, state)

    def receive(self, connection: Connection, message: messages.Message, damaged: bool) -> None:
        """A message has come in, and waits for its turn."""
        seconds = self._node.receive if isinstance(message, messages.ShardResult) else 0.0
        self._come.append((seconds, super().receive, (connection, message, damaged)))
        self._go_on()

    def _idle(self) -> None:
        self._wants_to_look = True
        self._go_on()

    def _look(self) -> None:
        self._has_looked = True
        super()._idle()

    def _go_on(self) -> None:
        """Begin what is next, if nothing is being done."""
        if self._is_working or not self.alive:
            return
        if self._decided:
            seconds, call, arguments = self._decided.popleft()
        elif self._come:
            seconds, call, arguments = self._come.popleft()
        elif self._wants_to_look:
            self._wants_to_look = False
            seconds, call, arguments = self._node.ahead, self._look, ()
        else:
            self._machine.node_works(False)
            return
        self._is_working = True
        self._machine.node_works(True)
        self.clock.after(seconds, self.deliver, self._done, call, arguments)

    def _done(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        call(*arguments)
        self._is_working = False
        if self.alive:
            self._go_on()
        else:
            self._machine.node_works(False)

    def _perform(self, decide: Callable[..., list[actions.Action]], *arguments: Any) -> None:
        self._given.clear()
        super()._perform(decide, *arguments)

    def _act(self, action: actions.Action) -> None:
        if isinstance(action, actions.Finish):  # the last words go out, however long they take
            for _, call, arguments in self._decided:
                call(*arguments)
        super()._act(action)
        if isinstance(action, actions.RecordStep):
            seconds = self._node.step
            if not self._has_looked:  # what could have been done ahead is done now
                seconds += self._node.ahead
            self._has_looked = False
            self._decided.append((seconds, _nothing, ()))

    def _send(self, send: actions.Send) -> None:
        seconds = 0.0
        is_work = isinstance(send.message, messages.Weights | messages.Task)
        if is_work and send.peer not in self._given:
            self._given.add(send.peer)
            seconds = self._node.send
        self._decided.append((seconds, super()._send, (send,)))
        self._go_on()


def _nothing() -> None:
    """Time has passed."""
