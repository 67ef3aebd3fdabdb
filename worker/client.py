"""The worker's shell: its connection, clock and signals around the pure state."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Collection
from types import FrameType

import zmq

from microgpt.replicas.work import Lie
from microgpt.support import signals
from microgpt.support.cli import UserError, printable, say
from microgpt.support.step_clock import NO_CLOCK, NoClock
from worker.coordinator_link import CoordinatorLink
from worker.curve import Keys
from worker.executor import Executor, describe
from worker.levers import NO_LEVERS, NoLevers
from worker.state import (
    Action,
    Compute,
    Configure,
    Configured,
    Event,
    Leave,
    Note,
    Prepare,
    Received,
    Send,
    StopRequested,
    Tick,
    WorkerState,
)

TICK_SECONDS = 0.1


class Client:
    """A worker process's connection to its coordinator. Raises UserError for a bad address.

    ``parent`` is the process to leave with, if that ends first; 0 for none. ``keys`` encrypt.
    ``patience``: leave after so many seconds without a connection; 0 for never. ``ready`` is called
    once, by another thread, when the engine is made. ``clock`` hears where the time goes. The rest
    is the executor's.
    """

    def __init__(
        self,
        connect: str,
        state: WorkerState,
        *,
        quiet: bool,
        parent: int = 0,
        keys: Keys | None = None,
        patience: float = 0.0,
        ready: Callable[[], None] | None = None,
        clock: NoClock = NO_CLOCK,
        trusted: Collection[str] = (),
        slowness: float = 1.0,
        lie: Lie | None = None,
        levers: NoLevers = NO_LEVERS,
    ) -> None:
        self._link = CoordinatorLink(connect, keys, clock=clock)
        self._ready, self._levers = ready, levers
        self._state, self._quiet, self._parent = state, quiet, parent
        self._patience = patience
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._broken, self._signal = "", 0
        self._leave: Leave | None = None
        self._executor = Executor(
            state.engine, self._post, self._break, clock=clock, trusted=trusted,
            slowness=slowness, lie=lie, levers=levers,
        )  # fmt: skip
        self._clock, self._tick_at = clock, 0.0

    def serve(self) -> tuple[Leave, int]:
        """Work until there is no more to do. Returns how it ended, and the signal or 0.

        Raises UserError if the coordinator speaks another version, or the engine broke.
        """
        poller, link = zmq.Poller(), self._link
        for source in (link.socket, self._woken, link.monitor):
            poller.register(source, zmq.POLLIN)
        try:
            # Ours also after we have returned: a second one must not break off the leaving.
            for number in signals.SIGNALS:
                signal.signal(number, self._on_signal)
            self._perform(self._state.start(time.monotonic()))
            while self._leave is None:
                self._clock.lap("rest")
                busy = self._executor.busy  # waiting for the engine is no idleness
                ready = dict(poller.poll(int(TICK_SECONDS * 1000)))
                self._clock.lap("engine" if busy else "idle")
                if link.socket in ready:
                    self._take_in_messages()
                if len(ready) > (link.socket in ready):
                    self._take_in_news()
                link.look()
                link.cut(self._levers.cut)
                if self._signal or time.monotonic() >= self._tick_at:
                    self._tick()
            return self._leave, self._signal
        finally:
            link.close()

    def _take_in_messages(self) -> None:
        """Read what the coordinator has sent, and do what it wants."""
        while self._leave is None and not self._signal:
            message = self._link.receive()
            if message is None:
                break
            self._handle(Received(message))
            self._clock.lap("rest")

    def _take_in_news(self) -> None:
        """Events of the thread that computes, and of the connection."""
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while not self._events.empty():
            event = self._events.get()
            self._executor.taken_in(event)
            self._handle(event)
        if self._broken:
            raise UserError(self._broken)
        for event in self._link.news():
            self._handle(event)

    def _tick(self) -> None:
        """See to what is due now and then: signs of life, and whether we are still wanted."""
        self._tick_at = time.monotonic() + TICK_SECONDS
        if self._signal or (self._parent and os.getppid() != self._parent):
            self._handle(StopRequested())
        self._handle(Tick())
        self._leave_if_alone()

    def _handle(self, event: Event) -> None:
        self._perform(self._state.handle(event, time.monotonic()))

    def _leave_if_alone(self) -> None:
        if self._patience and self._leave is None and self._link.alone_seconds > self._patience:
            self._leave = Leave("alone", f"no coordinator for {self._patience:g} s")

    def _perform(self, actions: list[Action]) -> None:
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            if isinstance(action, Send):
                self._link.send(action.message)
            elif isinstance(action, (Configure, Compute)):
                done = self._run(action)
                if done is not None:
                    waiting.extend(self._state.handle(done, time.monotonic()))
            elif isinstance(action, Prepare):
                self._executor.prepare(action)
            elif isinstance(action, Note):
                if not self._quiet:
                    say(printable(action.text))
            else:
                self._leave = action

    def _run(self, order: Configure | Compute) -> Event | None:
        try:
            return self._executor.run(order)
        except Exception as error:
            raise UserError(describe(error)) from error

    def _post(self, event: Event) -> None:
        if isinstance(event, Configured) and self._ready is not None:
            self._ready()
            self._ready = None
        self._events.put(event)
        self._wake()

    def _break(self, text: str) -> None:
        self._broken = text
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b"x")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        self._wake()
