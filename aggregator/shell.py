"""The aggregator's shell: two sockets, clock and signals around the pure state. It decides nothing.

Everything is done in one thread, so that between a message of a worker and the answer to the
parent nobody has to be woken.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import zmq

from aggregator.state import Action, AggregatorState, Event, Listen
from coordinator.core import inputs
from coordinator.core.actions import Judge
from coordinator.core.actions import Send as SendBelow
from coordinator.core.event_text import describe
from coordinator.core.events import EventBase
from coordinator.core.sizes import LARGEST
from coordinator.judge import JudgeProcess
from coordinator.net.encoder import Encoder
from coordinator.net.offenders import Offenders
from coordinator.net.router import MESSAGE_OVERHEAD, Transport
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import num_params
from microgpt.protocol import messages
from microgpt.support import signals
from microgpt.support.cli import UserError, printable, say
from worker import state as upwards
from worker.coordinator_link import CoordinatorLink

TICK_SECONDS = 0.05
FAREWELL_SECONDS = 0.5  # for workers to hear that they may go
NAMES_BYTES = 4 << 10  # of a message, beside its numbers
NO_CHECKPOINTS = "this is an aggregator, which has no checkpoints: ask the coordinator"


class Shell:
    """Runs an ``AggregatorState`` until it is finished; see ``serve``.

    ``link``: to the parent. ``bind``: where workers connect, with the keys in ``curve`` if there
    is one. ``parent`` is the process to end with, if that ends first; 0 for none. ``patience``:
    leave after so many seconds without a coordinator; 0 for never. ``listens`` is called with the
    address, once, when workers can connect.
    """

    def __init__(
        self,
        state: AggregatorState,
        link: CoordinatorLink,
        bind: str,
        *,
        curve: Path | None = None,
        quiet: bool = False,
        parent: int = 0,
        patience: float = 0.0,
        listens: Callable[[str], None] = lambda address: None,
    ) -> None:
        self._state, self._link, self._bind, self._curve = state, link, bind, curve
        self._quiet, self._parent, self._patience = quiet, parent, patience
        self._listens = listens
        self._transport: Transport | None = None
        self._model: Mapping[str, int] = {}
        self._judge: JudgeProcess | None = None
        self._verdicts: queue.SimpleQueue[inputs.Judged] = queue.SimpleQueue()
        self._encoder, self._offenders = Encoder(), Offenders()
        self._leave: upwards.Leave | None = None
        self._signal = 0
        self._tick_at = 0.0
        self._poller = zmq.Poller()  # as long as nobody can connect to us
        for source in (link.socket, link.monitor):
            self._poller.register(source, zmq.POLLIN)

    def serve(self) -> tuple[upwards.Leave, int]:
        """Work until there is no more to do. Returns how it ended, and the signal or 0.

        Raises UserError if the parent cannot be understood, or ``bind`` not be used.
        """
        try:
            # Ours also after we have returned: a second one must not break off the leaving.
            for number in signals.SIGNALS:
                signal.signal(number, self._on_signal)
            self._perform(self._state.start(time.monotonic()))
            while self._leave is None:
                self._turn()
            self._see_off()
            return self._leave, self._signal
        except ValueError as error:
            raise UserError(f"the coordinator's work cannot be done: {error}") from error
        finally:
            if self._judge is not None:
                self._judge.close()
            self._link.close()
            if self._transport is not None:
                self._transport.close()

    def _turn(self) -> None:
        """Take in what has happened since the last time, or wait a moment for it."""
        if self._transport is None:
            self._poller.poll(int(TICK_SECONDS * 1000))
        else:
            self._transport.wait(TICK_SECONDS)
            for event in self._transport.receive():
                self._of_worker(event)
        for connected in self._link.news():
            self._handle(connected)
        while self._leave is None and (message := self._link.receive()) is not None:
            self._handle(upwards.Received(message))
        self._link.look()
        while not self._verdicts.empty():
            self._handle(self._verdicts.get())
        if self._signal or time.monotonic() >= self._tick_at:
            self._tick()

    def _tick(self) -> None:
        self._tick_at = time.monotonic() + TICK_SECONDS
        if self._signal or (self._parent and os.getppid() != self._parent):
            self._handle(upwards.StopRequested())
        self._handle(upwards.Tick())
        for peer in self._offenders.due():
            if self._transport is not None:
                self._transport.cut_off(peer)
        if self._patience and self._leave is None and self._link.alone_seconds > self._patience:
            self._leave = upwards.Leave("done", f"no coordinator for {self._patience:g} s")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        if self._transport is not None:
            self._transport.wake()

    # --- workers ---------------------------------------------------------------------------------

    def _of_worker(self, event: inputs.Input) -> None:
        """Something of a worker, or of somebody who is none."""
        if isinstance(event, inputs.Received) and isinstance(event.message, messages.Question):
            event = inputs.Misbehaved(event.peer, NO_CHECKPOINTS)
        if isinstance(event, inputs.Misbehaved):
            self._offenders.add(event.peer)
            if not self._is_member(event.peer):
                self._send(event.peer, messages.Refuse("", "", event.reason[:500]))
                return
        if isinstance(event, inputs.Received | inputs.Misbehaved | inputs.Disconnected):
            self._handle(event)

    def _is_member(self, peer: inputs.Peer) -> bool:
        return self._state.crew is not None and peer in self._state.crew.members.workers

    def _is_proven(self, peer: inputs.Peer) -> bool:
        return self._state.crew is not None and self._state.crew.members.workers[peer].proven

    def _listen(self, order: Listen) -> None:
        """Let workers connect, with limits as large as this model makes them. Raises UserError."""
        if self._judge is not None:
            self._judge.close()
        self._judge = JudgeProcess(order.model, order.recipe, self._judged)
        if self._transport is not None and order.model == self._model:
            return
        if self._transport is not None:
            self._transport.close()
        self._model = order.model
        vector = 8 * num_params(parameter_shapes(GPTConfig(**order.model)))
        usual = vector + 8 * LARGEST + NAMES_BYTES  # an answer for the largest shard
        largest = vector + MESSAGE_OVERHEAD
        self._transport = Transport(self._bind, largest, self._curve, usual, vector)
        for source in (self._link.socket, self._link.monitor):
            self._transport.watch(source)
        self._bind = self._transport.endpoint  # also if it is to be opened again
        if not self._quiet:
            say(f"listening on {self._bind}")
        listens, self._listens = self._listens, lambda address: None
        listens(self._bind)

    def _judged(self, verdict: inputs.Judged) -> None:
        """The judge's report, from its thread."""
        self._verdicts.put(verdict)
        if self._transport is not None:
            self._transport.wake()

    def _see_off(self) -> None:
        """Wait for workers to go, for a moment: see ``coordinator.event_loop``."""
        until = time.monotonic() + FAREWELL_SECONDS
        crew, transport = self._state.crew, self._transport
        if crew is None or transport is None or self._leave is None:
            return
        while self._leave.outcome == "done" and transport.connected(crew.members.workers):
            left = until - time.monotonic()
            if left <= 0:
                break
            transport.wait(left)
            for event in transport.receive():
                self._of_worker(event)

    # --- performing ------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        self._perform(self._state.handle(event, time.monotonic()))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendBelow):
                self._send(action.peer, action.message)
            elif isinstance(action, upwards.Send):
                self._link.send(action.message)
            elif isinstance(action, Listen):
                self._listen(action)
            elif isinstance(action, Judge):
                if self._judge is not None:
                    self._judge.ask(action)
            elif isinstance(action, upwards.Leave):
                self._leave = action
            else:
                self._tell(action)
        if self._transport is not None and self._state.crew is not None:
            self._transport.let_in(self._state.crew.members.workers, self._is_proven)

    def _send(self, peer: inputs.Peer, message: messages.Message) -> None:
        if self._transport is not None:
            self._transport.send(peer, self._encoder.encode(message))

    def _tell(self, action: Action) -> None:
        """A line for people."""
        if isinstance(action, EventBase) and action.warning:
            say(f"warning: {printable(describe(action))}", error=True)
        elif not self._quiet and isinstance(action, EventBase):
            say(printable(describe(action)))
        elif not self._quiet and isinstance(action, upwards.Note):
            say(printable(action.text))
