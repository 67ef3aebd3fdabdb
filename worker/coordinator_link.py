"""A worker's connection to its coordinator: what comes, what becomes of it, what is sent."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import zmq

from microgpt.protocol import messages
from microgpt.protocol.addresses import FORMS, check_address
from microgpt.protocol.monitor import news_of
from microgpt.protocol.receive_limit import ReceiveLimit, TooMuchError
from microgpt.support.cli import UserError
from microgpt.support.step_clock import NO_CLOCK, NoClock
from worker.curve import Keys, handshake_failure
from worker.dealer import make_socket
from worker.state import Connected

LINGER_SECONDS = 0.3
NEWS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
TOO_MUCH = "the coordinator sends more than anybody could read: is it one?"
MAX_UNREAD = messages.MAX_MESSAGE_BYTES + (1 << 20)  # bytes


class CoordinatorLink:
    """To the coordinator at ``address``, which ``flag`` has named; encrypted if there are ``keys``.

    ``socket`` and ``monitor`` are to be polled. Raises UserError for a bad address.
    """

    def __init__(
        self,
        address: str,
        keys: Keys | None = None,
        *,
        flag: str = "--connect",
        clock: NoClock = NO_CLOCK,
    ) -> None:
        try:
            check_address(address)
        except ValueError as error:
            raise UserError(f"{flag} {error}") from error
        self._address, self._keys, self._clock = address, keys, clock
        self._context = zmq.Context()
        self.socket = make_socket(self._context, keys)
        self._limit = ReceiveLimit(MAX_UNREAD, encrypted=keys is not None)
        self.monitor = self.socket.get_monitor_socket(NEWS)
        self._alone_since: float | None = None
        self._cut = False
        self._last_word: zmq.MessageTracker | None = None
        try:
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise UserError(f"{flag} {address} is no address: {error}; {FORMS}") from error

    # --- what comes ------------------------------------------------------------------------------

    def receive(self) -> messages.Message | None:
        """The next message, if one has come.

        Raises UserError if the coordinator cannot be understood, or sends more than can be read.
        """
        try:
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self._limit.drained()
            return None
        try:
            self._limit.heard(len(frame))
        except TooMuchError:
            raise UserError(TOO_MUCH) from None
        self._clock.lap("receive")
        try:
            message = messages.decode(frame.buffer, longest_list=0)
        except messages.ProtocolError as error:
            raise UserError(f"the coordinator cannot be understood: {error}") from error
        self._clock.lap("decode")
        return message

    def look(self) -> None:
        """See that no more comes than can be read; to be called often. Raises UserError."""
        try:
            self._limit.look()
        except TooMuchError:
            raise UserError(TOO_MUCH) from None

    def news(self) -> Iterator[Connected]:
        """What has become of the connection.

        Raises UserError if the coordinator's keys and ours do not go together.
        """
        while self.monitor.poll(0):
            event, value = news_of(self.monitor.recv_multipart())
            if event == zmq.EVENT_CONNECTED:
                self._limit.connected(value)
                continue
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                yield Connected()
                continue
            failure = handshake_failure(event, value, self._keys, self._address, "worker")
            if failure:
                raise UserError(failure)

    # --- what is sent ----------------------------------------------------------------------------

    def send(self, message: messages.Message) -> None:
        """Send a message; it is dropped if nobody is connected: it would be stale."""
        self._clock.lap("rest")
        data = messages.encode(message)
        self._clock.lap("encode")
        try:
            if isinstance(message, messages.Goodbye):
                frame = zmq.Frame(data, track=True, copy=False, copy_threshold=0)
                self.socket.send(frame, zmq.NOBLOCK, copy=False)
                self._last_word = frame.tracker
            else:
                self.socket.send(data, zmq.NOBLOCK)
                self._clock.lap("send")
            self._alone_since = None
        except zmq.Again:
            self._alone_since = self._alone_since or time.monotonic()

    @property
    def alone_seconds(self) -> float:
        """For how long nothing could be sent, as nobody was connected."""
        return 0.0 if self._alone_since is None else time.monotonic() - self._alone_since

    # --- the connection itself -------------------------------------------------------------------

    def cut(self, wanted: bool) -> None:
        """Have no connection, or one again."""
        if wanted != self._cut:
            self._cut = wanted
            change = self.socket.disconnect if wanted else self.socket.connect
            change(self._address)

    def close(self) -> None:
        """Hang up, our last word having been sent.

        A socket that is being closed takes nothing in; so it must not be so for long while the
        other side may send (see the limit on what it takes in).
        """
        if self._last_word is not None:
            with contextlib.suppress(zmq.NotDone):
                self._last_word.wait(LINGER_SECONDS)
        self.socket.disable_monitor()
        self._context.destroy(linger=0)
