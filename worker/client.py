"""The worker's shell: DEALER socket, clock and signals around the pure state."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from types import FrameType

import zmq

from microgpt.protocol import messages
from microgpt.protocol.addresses import FORMS, check_address
from microgpt.protocol.greeting import differs
from microgpt.protocol.monitor import news_of
from microgpt.protocol.receive_limit import ReceiveLimit, TooMuchError
from microgpt.replicas.work import Lie
from microgpt.support import signals
from microgpt.support.cli import UserError, printable, say
from microgpt.support.step_clock import NO_CLOCK, NoClock
from worker.curve import Keys
from worker.dealer import make_socket
from worker.executor import Executor, describe
from worker.levers import NO_LEVERS, NoLevers
from worker.state import (
    Action,
    Compute,
    Configure,
    Configured,
    Connected,
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
LINGER_SECONDS = 0.3
NEWS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
MAX_UNREAD = messages.MAX_MESSAGE_BYTES + (1 << 20)  # bytes


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
        try:
            check_address(connect)
        except ValueError as error:
            raise UserError(f"--connect {error}") from error
        self._ready, self._address = ready, connect
        self._state, self._quiet, self._parent = state, quiet, parent
        self._patience = patience
        self._alone_since: float | None = None
        self._context = zmq.Context()
        self._socket = make_socket(self._context, keys)
        self._limit = ReceiveLimit(MAX_UNREAD, encrypted=keys is not None)
        self._keys, self._levers, self._cut = keys, levers, False
        self._monitor = self._socket.get_monitor_socket(NEWS)
        try:
            self._socket.connect(connect)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise UserError(f"--connect {connect} is no address: {error}; {FORMS}") from error
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._broken, self._signal = "", 0
        self._leave: Leave | None = None
        self._last_word: zmq.MessageTracker | None = None
        self._executor = Executor(
            state.engine, self._post, self._break, clock=clock, trusted=trusted,
            slowness=slowness, lie=lie, levers=levers,
        )  # fmt: skip
        self._clock, self._tick_at = clock, 0.0

    def serve(self) -> tuple[Leave, int]:
        """Work until there is no more to do. Returns how it ended, and the signal or 0.

        Raises UserError if the coordinator speaks another version, or the engine broke.
        """
        poller = zmq.Poller()
        for source in (self._socket, self._woken, self._monitor):
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
                if self._socket in ready:
                    self._take_in_messages()
                if len(ready) > (self._socket in ready):
                    self._take_in_news()
                self._limit.look()
                if self._levers.cut != self._cut:
                    self._change_link()
                if self._signal or time.monotonic() >= self._tick_at:
                    self._tick()
            return self._leave, self._signal
        except TooMuchError:
            raise UserError(
                "the coordinator sends more than anybody could read: is it one?"
            ) from None
        finally:
            self._close()

    def _close(self) -> None:
        """Hang up, our last word having been sent.

        A socket that is being closed takes nothing in; so it must not be so for long while the
        other side may send (see the limit on what it takes in).
        """
        if self._last_word is not None:
            with contextlib.suppress(zmq.NotDone):
                self._last_word.wait(LINGER_SECONDS)
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    def _take_in_messages(self) -> None:
        """Read what the coordinator has sent, and do what it wants."""
        with contextlib.suppress(zmq.Again):
            while self._leave is None and not self._signal:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                self._limit.heard(len(frame))
                self._clock.lap("receive")
                message = self._decode(frame)
                self._clock.lap("decode")
                self._handle(Received(message))
                self._clock.lap("rest")
        self._limit.drained()

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
        for event in self._news():
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

    def _change_link(self) -> None:
        """Cut the connection, and make none until it is to be there again."""
        self._cut = not self._cut
        change = self._socket.disconnect if self._cut else self._socket.connect
        change(self._address)

    def _leave_if_alone(self) -> None:
        if not self._patience or self._alone_since is None or self._leave is not None:
            return
        if time.monotonic() - self._alone_since > self._patience:
            self._leave = Leave("done", f"no coordinator for {self._patience:g} s")

    def _news(self) -> Iterator[Event]:
        """What has become of the connection.

        Raises UserError if the coordinator's keys and ours do not go together.
        """
        while self._monitor.poll(0):
            event, value = news_of(self._monitor.recv_multipart())
            if event == zmq.EVENT_CONNECTED:
                self._limit.connected(value)
                continue
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                yield Connected()
                continue
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and self._keys is not None:
                raise UserError(
                    "the coordinator does not know this worker: "
                    f"copy {self._keys.public_file} into the folder workers/ of its keys"
                )
            if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH or (
                event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                and differs(self._address, encrypted=self._keys is not None)
            ):
                wants = "wants keys: give" if self._keys is None else "has no keys: leave out"
                raise UserError(f"the coordinator {wants} --curve DIR")

    def _decode(self, frame: zmq.Frame) -> messages.Message:
        try:
            return messages.decode(frame.buffer, longest_list=0)
        except messages.ProtocolError as error:
            raise UserError(f"the coordinator cannot be understood: {error}") from error

    def _perform(self, actions: list[Action]) -> None:
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            if isinstance(action, Send):
                try:
                    self._send(action.message)
                    self._alone_since = None
                except zmq.Again:  # nobody is connected: it would be stale
                    self._alone_since = self._alone_since or time.monotonic()
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

    def _send(self, message: messages.Message) -> None:
        """Raises zmq.Again if nobody is connected."""
        self._clock.lap("rest")
        data = messages.encode(message)
        self._clock.lap("encode")
        if not isinstance(message, messages.Goodbye):
            self._socket.send(data, zmq.NOBLOCK)
            self._clock.lap("send")
            return
        frame = zmq.Frame(data, track=True, copy=False, copy_threshold=0)
        self._socket.send(frame, zmq.NOBLOCK, copy=False)
        self._last_word = frame.tracker

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
