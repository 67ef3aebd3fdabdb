"""Virtual aggregators: ``aggregator.shell`` without sockets, around the state of production.

Towards its coordinator an aggregator is a virtual worker, and meets what workers meet. Its other
end, to which workers connect, is that of a virtual coordinator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aggregator.state import AggregatorState, Event, Listen
from coordinator.core import actions, inputs
from coordinator.core.event_json import kind_of
from coordinator.core.event_text import describe
from coordinator.core.events import EventBase
from lab.conditions import DOWN, UP
from lab.simulation.network import DETECTION, Connection
from lab.simulation.processes import VirtualWorker, judged, show
from microgpt.protocol import messages
from worker import state as worker_state

FAREWELL = 0.05  # seconds for workers to hear that they may go


class Below:
    """The end of an aggregator to which workers connect: see ``CoordinatorEnd``."""

    def __init__(self, aggregator: VirtualAggregator) -> None:
        self._aggregator = aggregator
        self.name = aggregator.name
        self.connections: dict[bytes, Connection] = {}

    @property
    def alive(self) -> bool:
        """Whether the process runs or is frozen."""
        return self._aggregator.alive

    @property
    def frozen(self) -> bool:
        """Whether the process stands still."""
        return self._aggregator.frozen

    def deliver(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call this now, or when the process runs again if it is frozen."""
        self._aggregator.deliver(call, *arguments)

    def receive(self, connection: Connection, message: messages.Message, damaged: bool) -> None:
        """A message has come in."""
        peer, aggregator = connection.peer, self._aggregator
        if damaged:
            aggregator.trace(f"<- {connection.worker.name}: damaged bytes")
            crew = aggregator.tree.crew
            if crew is not None and peer in crew.members.workers:
                aggregator.take(inputs.Misbehaved(peer, "not msgpack: damaged by the simulator"))
            else:
                connection.send(DOWN, messages.Refuse("", "", "damaged"))
            return
        if aggregator.clock.tracing:
            aggregator.trace(f"<- {connection.worker.name}: {show(message)}")
        aggregator.take(inputs.Received(peer, message))

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        if self.connections.get(connection.peer) is connection:
            del self.connections[connection.peer]
        elif self._aggregator.world.rng.random() < 0.5:
            return  # the worker has come back before: not every transport tells of the old one
        self._aggregator.trace(f"connection of {connection.worker.name} is gone")
        self._aggregator.take(inputs.Disconnected(connection.peer))

    def hang_up(self, tell: Callable[[Connection], None]) -> None:
        """The process is gone; ``tell`` says when the other ends hear of it."""
        for connection in [*self.connections.values()]:
            connection.up.open = False
            tell(connection)


class VirtualAggregator(VirtualWorker):
    """One process of an aggregator. ``tree`` decides, ``below`` is where workers connect."""

    tree: AggregatorState
    below: Below

    def _begin(self, number: int) -> None:
        life = f"{self.slot.name}.{number}"
        self.below, self.tree = Below(self), AggregatorState(self.slot.name, life)
        self._act(self.tree.start(self.time))

    @property
    def ends(self) -> tuple[object, ...]:
        """See ``Process``."""
        return self, self.below

    @property
    def _queued(self) -> int:
        return self.tree.queued

    def take(self, event: Event) -> None:
        """Something has happened."""
        if self.alive:
            self._act(self.tree.handle(event, self.time))

    def _handle(self, event: worker_state.Event) -> None:
        self.take(event)

    def _act(self, decided: list[Any]) -> None:
        for action in decided:
            if isinstance(action, actions.Send):
                connection = self.below.connections.get(action.peer)
                if connection is not None:
                    if self.clock.tracing:
                        self.trace(f"-> {connection.worker.name}: {show(action.message)}")
                    connection.send(DOWN, action.message)
            elif isinstance(action, worker_state.Send):
                if self.connection is not None:
                    self.connection.send(UP, action.message)
            elif isinstance(action, actions.Judge):
                self.world.judging()
                seconds = self.world.rng.uniform(0.05, 1.0)
                self.clock.after(seconds, self.deliver, self._judge, action, seconds)
            elif isinstance(action, worker_state.Leave):
                self.trace(f"leaves: {action.outcome}, {action.reason}")
                self.slot.left(action)
                self.clock.after(FAREWELL, self.end)
            elif isinstance(action, EventBase):
                self.trace(f"({kind_of(action)}) {describe(action)}")
                self.world.check_told(action)
            elif not isinstance(action, (Listen, worker_state.Note)):
                self.world.broken(f"an aggregator decides {action}")

    def _judge(self, question: actions.Judge, seconds: float) -> None:
        self.take(judged(self.world.reference_run, question, seconds))

    def vanish(self) -> None:
        """The whole machine is gone: nobody ends the connections.

        The workers notice, whatever the transport: they have nothing else to find out by.
        """
        self.below.hang_up(lambda one: self.clock.after(DETECTION[DOWN], one.give_up, DOWN))
        super().vanish()

    def end(self) -> None:
        """The process is gone, and with it the connections."""
        if self.alive:
            self.below.hang_up(lambda one: self.clock.after(0.001, one.tell_end, DOWN))
        super().end()
