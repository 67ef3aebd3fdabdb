"""Virtual processes: ``coordinator.event_loop`` and ``worker.client`` without sockets.

The decisions in them are those of production. A process can be frozen, thawed and killed at any
moment, the coordinator between any two actions.

Longer than 300 lines because the two ends of a connection are read side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.core import actions, inputs
from coordinator.core.event_json import kind_of
from coordinator.core.event_text import describe
from coordinator.core.events import EventBase
from coordinator.core.save_deferral import SaveDeferral
from coordinator.core.state import CoordinatorState
from lab.conditions import DOWN, UP
from lab.simulation import byzantine
from lab.simulation.arithmetic import ReferenceRun
from lab.simulation.disk import Writer
from lab.simulation.network import Connection
from lab.simulation.surroundings import Place, Surroundings
from microgpt.engine.judge import do_again
from microgpt.protocol import messages
from microgpt.replicas.work import ReplicaStateError
from worker import state as worker_state
from worker.state import WorkerState

COORDINATOR_TICK = 0.2  # seconds; coarser than in production, to be quick
WORKER_TICK = 0.25
REFUSED = 0.001  # seconds at least, until a worker that finds no coordinator looks again
IDLE = 0.001  # seconds from a message of workers to a moment in which there is none


class KilledError(Exception):
    """The process ends here."""


class Process:
    """``skew`` is what its clock is ahead of virtual time.

    What thousands of workers consist of lies close together: they are met in no order.
    """

    __slots__ = ("_backlog", "alive", "clock", "frozen", "name", "skew", "world")

    def __init__(self, world: Surroundings, name: str) -> None:
        self.world, self.clock, self.name = world, world.clock, name
        self.alive = True
        self.frozen = False
        self.skew = 0.0
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    @property
    def time(self) -> float:
        """What its clock shows."""
        return self.clock.now + self.skew

    @property
    def ends(self) -> tuple[object, ...]:
        """What stands for the process at connections."""
        return (self,)

    def deliver(self, call: Callable[..., None], *arguments: Any) -> None:
        """Do this now, or when the process runs again."""
        if self.frozen:
            self._backlog.append((call, arguments))
        elif self.alive:
            call(*arguments)

    def freeze(self) -> None:
        """The process does nothing until ``thaw``."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on with what has come in meanwhile."""
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for call, arguments in backlog:
            self.deliver(call, *arguments)

    def trace(self, text: str) -> None:
        """A line of the trace."""
        self.clock.trace(self.name, text)


class VirtualCoordinator(Process):
    """One epoch of the coordinator: a process. ``fuse``: it is killed after so many actions."""

    idle_seconds = IDLE

    def __init__(self, world: Surroundings, state: CoordinatorState) -> None:
        super().__init__(world, "coordinator")
        self.state = state
        self.connections: dict[bytes, Connection] = {}
        self.fuse: int | None = None
        self._is_idle = False  # or will be in a moment
        self._writer, self._saves = Writer(self.clock, world.disk, self._saved), SaveDeferral()
        self._perform(state.start, self.time)
        self.clock.after(COORDINATOR_TICK * world.rng.random(), self._tick)

    def _tick(self) -> None:
        if self.alive:
            if not self.frozen:
                self._handle(inputs.Tick())
                self.world.events.write()
                self.world.audit(self.state)
            self.clock.after(COORDINATOR_TICK, self._tick)

    def receive(self, connection: Connection, message: messages.Message, damaged: bool) -> None:
        """A message has come in."""
        peer = connection.peer
        if damaged:
            self.trace(f"<- {connection.worker.name}: damaged bytes")
            if peer in self.state.workers:
                self._handle(inputs.Misbehaved(peer, "not msgpack: damaged by the simulator"))
            else:
                refusal = messages.Refuse(self.state.run, self.state.epoch, "damaged")
                self._send(actions.Send(peer, refusal))
            return
        if self.clock.tracing:
            self.trace(f"<- {connection.worker.name}: {show(message)}")
        self._perform(self.state.handle, inputs.Received(peer, message), self.clock.now + self.skew)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        if self.connections.get(connection.peer) is connection:
            del self.connections[connection.peer]
        elif self.world.rng.random() < 0.5:
            return  # the worker has come back before: not every transport tells of the old one
        self.trace(f"connection of {connection.worker.name} is gone")
        self._handle(inputs.Disconnected(connection.peer))

    def stop(self) -> None:
        """SIGTERM."""
        self._handle(inputs.StopRequested())

    def kill(self) -> None:
        """SIGKILL."""
        self.alive = False
        self._writer.kill()
        self.world.events.lose()
        self.trace("is killed")
        for connection in list(self.connections.values()):
            connection.up.open = False
            connection.tell_end(DOWN)
        self.world.coordinator_gone(killed=True)

    def _judge(self, question: actions.Judge, seconds: float) -> None:
        self._handle(judged(self.world.reference_run, question, seconds))

    def _saved(self, event: inputs.Saved) -> None:
        if self.alive:
            self.deliver(self._handle, event)

    def _handle(self, event: inputs.Input) -> None:
        self._perform(self.state.handle, event, self.time)

    def _perform(self, decide: Callable[..., list[actions.Action]], *arguments: Any) -> None:
        if not self.alive:
            return
        try:
            for action in decide(*arguments):
                if self.fuse is not None and not isinstance(action, EventBase):
                    self.fuse -= 1
                    if self.fuse < 0:
                        raise KilledError
                if isinstance(action, actions.Send):  # nearly all
                    self._send(action)
                else:
                    self._act(action)
        except KilledError:
            self.kill()
        if not self._is_idle and self.state.look_ahead.due:
            self._is_idle = True
            self.clock.after(self.idle_seconds, self.deliver, self._idle)
        if self.alive and self._saves.waiting:
            closing = self.state.closing is not None
            if save := self._saves.due(idle=self._writer.idle, closing=closing):
                self._submit(save)

    def _idle(self) -> None:
        self._is_idle = False
        self._handle(inputs.Idle())

    def _submit(self, save: actions.Save) -> None:
        self.world.events.write()
        self._writer.submit(save)

    def _act(self, action: actions.Action) -> None:
        if isinstance(action, actions.Save):
            if older := self._saves.keep(action, idle=self._writer.idle, wants=lambda _: False).now:
                self._submit(older)
        elif isinstance(action, actions.RecordStep):
            self.world.step_done(action.record, self.state)
        elif isinstance(action, actions.Judge):
            self.world.judging()
            seconds = self.world.rng.uniform(0.05, 1.0)
            self.clock.after(seconds, self.deliver, self._judge, action, seconds)
        elif isinstance(action, actions.Finish):
            self._finish(action)
        elif isinstance(action, EventBase):
            if self.clock.tracing:
                self.trace(f"({kind_of(action)}) {describe(action)}")
            self.world.told(action)

    def _finish(self, finish: actions.Finish) -> None:
        self.alive = False
        self._writer.kill()
        self.world.events.write()
        self.trace(f"finishes: {finish.outcome}, {finish.reason}")
        for connection in list(self.connections.values()):
            self.clock.after(0.05, connection.tell_end, DOWN)
        self.world.coordinator_gone(killed=False, finish=finish)

    def _send(self, send: actions.Send) -> None:
        connection = self.connections.get(send.peer)
        if connection is not None:
            if self.clock.tracing:
                self.trace(f"-> {connection.worker.name}: {show(send.message)}")
            connection.send(DOWN, send.message)


class VirtualWorker(Process):
    """One process of a worker. It finds its coordinator again whenever the connection is gone."""

    __slots__ = ("_answerer", "connection", "peer", "slot", "state")

    def __init__(self, world: Surroundings, slot: Place, number: int) -> None:
        super().__init__(world, f"{slot.name}.{number}")
        self.slot = slot
        self.peer = f"{slot.name}.{number}".encode()
        self.connection: Connection | None = None
        self._begin(number)
        self._reconnect()
        self.clock.after(WORKER_TICK * world.rng.random(), self._tick)

    def _begin(self, number: int) -> None:
        world, slot = self.world, self.slot
        self.state = WorkerState(slot.name, "virtual")
        calculate = world.reference_run.calculate
        self._answerer = calculate.answerer(slot.lie, number, world.knowledge)
        self._perform(self.state.start(self.time))

    @property
    def _queued(self) -> int:
        return self.state.queued

    def _tick(self) -> None:
        if self.alive:
            if not self.frozen:
                self._handle(worker_state.Tick())
                if self._queued > self.world.plan.most_queued:
                    self.world.broken(f"{self.name} has {self._queued} jobs waiting")
            self.clock.after(WORKER_TICK, self._tick)

    def _reconnect(self, least: float = 0.0) -> None:
        self.clock.after(max(least, self._takes(0.02, 0.3)), self.deliver, self._connect)

    def _takes(self, least: float, most: float) -> float:
        """So many seconds, until it is connected or ready."""
        return self.world.rng.uniform(least, most) * self.world.plan.hesitation

    def _connect(self) -> None:
        coordinator, host = self.slot.above, self.slot.host
        if self.connection is not None:
            return
        if coordinator is None or coordinator.frozen or host.link.partitioned:
            self._reconnect(REFUSED)
            return
        self.connection = Connection(self.world.network, host, (self, coordinator))
        coordinator.connections[self.peer] = self.connection
        self.slot.connections.append(self.connection)
        self._handle(worker_state.Connected())

    def receive(self, connection: Connection, message: messages.Message, damaged: bool) -> None:
        """A message has come in; a damaged one is the end, as it is in production."""
        if damaged:
            self.trace("cannot understand the coordinator")
            self.end()
        else:
            self._handle(worker_state.Received(message))

    def lost(self, connection: Connection | None = None) -> None:
        """The connection is gone."""
        self.connection = None
        self._reconnect()

    def stop(self) -> None:
        """SIGTERM."""
        self._handle(worker_state.StopRequested())

    def kill(self) -> None:
        """SIGKILL."""
        self.trace("is killed")
        self.end()

    def vanish(self) -> None:
        """The whole machine is gone: nobody ends the connection."""
        self.trace("vanishes")
        if self.connection is not None:
            self.connection.down.open = False
            self.world.network.watch(self.connection, UP)
        self.alive = False
        self.slot.worker_gone(self)

    def end(self) -> None:
        """The process is gone, and with it the connection."""
        if not self.alive:
            return
        self.alive = False
        if self.connection is not None:
            self.connection.down.open = False
            self.clock.after(0.001, self.connection.tell_end, UP)
        self.slot.worker_gone(self)

    def _handle(self, event: worker_state.Event) -> None:
        if self.alive:
            self._perform(self.state.handle(event, self.clock.now + self.skew))

    def _perform(self, actions: list[worker_state.Action]) -> None:
        for action in actions:
            if isinstance(action, worker_state.Send):
                if self.connection is not None:
                    self.connection.send(UP, action.message)
            elif isinstance(action, worker_state.Compute):
                self._compute(action.job, self.slot.seconds_for(action.job))
            elif isinstance(action, worker_state.Prepare):
                pass  # nothing is quicker for it
            elif isinstance(action, worker_state.Configure):
                seconds = self._takes(0.0, 0.3)
                made = worker_state.Configured(action.model, action.recipe)
                self.clock.after(seconds, self.deliver, self._handle, made)
            elif isinstance(action, worker_state.Leave):
                self.trace(f"leaves: {action.outcome}, {action.reason}")
                self.slot.left(action)
                self.clock.after(0.01, self.end)

    def _compute(self, job: worker_state.Job, seconds: float) -> None:
        """Begin a job that takes the engine so long."""
        self.clock.after(seconds, self.deliver, self._computed, job, seconds)

    def _computed(self, job: worker_state.Job, seconds: float) -> None:
        world = self.world
        try:
            lie, run, answerer = self.slot.lie, world.reference_run, self._answerer
            answer = (
                byzantine.answer(lie, job, seconds, run, answerer)
                if lie
                else run.calculate(job, seconds, answerer)
            )
        except ReplicaStateError:
            self._handle(worker_state.Computed(job, None))
            return
        if answer is not None:
            self._handle(worker_state.Computed(job, answer))


def judged(run: ReferenceRun, question: actions.Judge, seconds: float) -> inputs.Judged:
    """What a shard comes to on the host of whoever gives out the work."""
    answerer = run.calculate.answerer()
    do_again(answerer, question.before)
    job = worker_state.Job(question.task, question.weights.weights)
    return inputs.Judged(run.calculate(job, seconds, answerer))


def show(message: messages.Message) -> str:
    """A message in a trace."""
    text = type(message).__name__
    for name in ("step", "start", "count", "reason"):
        if hasattr(message, name):
            text += f" {name}={getattr(message, name)}"
    return f"{text} ({message.epoch})" if message.epoch else text
