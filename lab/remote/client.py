"""A connection to a coordinator, to ask it about checkpoints. Needs pyzmq: import it late.

It is no worker's: nothing is said but questions, one at a time. Every wait ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import zmq

from lab.terminal import UserError, visible
from microgpt.protocol import messages
from microgpt.protocol.addresses import check_address
from microgpt.protocol.keys import COORDINATOR, PUBLIC, has_coordinator
from microgpt.protocol.messages import MAX_LISTED, MAX_PART, Message, Question, Reply
from microgpt.protocol.monitor import news_of
from microgpt.protocol.receive_limit import ReceiveLimit, TooMuchError
from microgpt.support.cli import UserError as ProjectError
from worker.curve import Keys, handshake_failure, load_keys

CONNECT_SECONDS = 5.0  # without a coordinator
ANSWER_SECONDS = 10.0  # with one, that says nothing
POLL_MS = 5  # between two looks how much has come that is no whole message yet
IMPATIENCE = 2.0  # seconds after which a question is repeated: the reply may have been lost
HEARTBEAT_MS = 2000  # a connection without a sign of life for so long is made anew
#: Nothing larger is taken in; and no more than a few of the largest may wait for us.
MAX_MESSAGE = MAX_PART + (1 << 17)
MAX_UNREAD = 4 * MAX_MESSAGE
NEWS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECTED
)


class GoneError(UserError):
    """There is no coordinator (any more)."""


class SilentError(UserError):
    """There is a coordinator, and it does not reply: it may be too busy."""


class CheckpointClient:
    """A connection to the coordinator at ``address``, with the keys in the folder ``curve``.

    Use it in a ``with`` statement. Raises UserError for a bad address or unusable keys.
    """

    def __init__(self, address: str, curve: str | None = None) -> None:
        try:
            check_address(address)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.address, self._curve = address, curve
        self._keys = None if curve is None else _keys_in(Path(curve))
        self._number = 0
        self._connected = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        options: dict[int, int | bytes] = {
            zmq.IMMEDIATE: 1,
            zmq.LINGER: 0,
            zmq.RECONNECT_IVL: 50,
            zmq.RECONNECT_IVL_MAX: 200,
            zmq.HEARTBEAT_IVL: HEARTBEAT_MS // 4,
            zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_MS,
            zmq.MAXMSGSIZE: MAX_MESSAGE,
            zmq.RCVHWM: 0,  # and a limit of our own, see ReceiveLimit
        }
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        if self._keys is not None:
            self._keys.apply(self._socket)
        self._limit = ReceiveLimit(MAX_UNREAD, encrypted=self._keys is not None)
        self._monitor = self._socket.get_monitor_socket(NEWS)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise UserError(f"{address} is no address: {error}; use tcp://HOST:PORT") from error
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def __enter__(self) -> CheckpointClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    def next_number(self) -> int:
        """For the next question."""
        self._number += 1
        return self._number

    def ask(self, question: Question) -> Reply:
        """The reply. Raises GoneError if nobody is there, SilentError if nobody replies to this."""
        began = seen = time.monotonic()
        asked: float | None = None
        while True:
            now = time.monotonic()
            if self._connected:
                seen = now
                if asked is None or now - asked > IMPATIENCE:
                    asked = now if self._say(question) else None
            elif now - seen > CONNECT_SECONDS:
                raise GoneError(self._nobody())
            if now - began > CONNECT_SECONDS + ANSWER_SECONDS:
                raise SilentError(f"the coordinator at {self.address} does not reply")
            self._poller.poll(POLL_MS)
            if not self._read_news():
                asked = None  # a question over an earlier connection may be lost
            reply = self._receive(question)
            if reply is not None:
                return reply

    def rest(self, seconds: float) -> None:
        """Say nothing for so long, and take nothing in. Raises UserError if too much comes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._poller.poll(min(POLL_MS, int(left * 1000) + 1))
            self._read_news()
            self._receive(None)

    def _say(self, question: Question) -> bool:
        try:
            self._socket.send(messages.encode(question), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self, question: Question | None) -> Reply | None:
        """The reply to this, if it has come; what else has come is forgotten."""
        while True:
            self._check(self._limit.look)
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._limit.drained()
                return None
            for frame in frames:
                self._check(partial(self._limit.heard, len(frame)))
            message = self._decode(frames)
            if isinstance(message, messages.Refuse):
                raise UserError(f"the coordinator refuses: {visible(message.reason)}")
            if question and isinstance(message, Reply) and message.number == question.number:
                return message

    def _check(self, limit: Callable[[], None]) -> None:
        try:
            limit()
        except TooMuchError:
            raise UserError(
                f"the coordinator at {self.address} sends more than anybody could read: is it one?"
            ) from None

    def _decode(self, frames: list[zmq.Frame]) -> Message:
        try:
            if len(frames) != 1:
                raise messages.ProtocolError(f"a message of {len(frames)} parts instead of one")
            return messages.decode(frames[0].buffer, longest_list=MAX_LISTED)
        except messages.ProtocolError as error:
            raise UserError(
                f"the coordinator at {self.address} cannot be understood: {error}"
            ) from error

    def _read_news(self) -> bool:
        """Whether the connection has lasted. Raises UserError if our keys cannot make one."""
        lasted = True
        while self._monitor.poll(0):
            event, value = news_of(self._monitor.recv_multipart())
            if event == zmq.EVENT_CONNECTED:
                self._limit.connected(value)
                continue
            self._connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            lasted = lasted and self._connected
            failure = handshake_failure(event, value, self._keys, self.address, "key")
            if failure:
                raise UserError(failure)
        return lasted

    def _nobody(self) -> str:
        if self._keys is None:
            return f"no coordinator answers at {self.address}: is the run over?"
        return (
            f"no coordinator with the key in {self._curve} answers at {self.address}: "
            "is the run over?"
        )


def _keys_in(directory: Path) -> Keys:
    if not has_coordinator(directory):
        name = COORDINATOR + PUBLIC
        raise UserError(f"there is no {name} in {directory}: copy the one of the coordinator")
    try:
        return load_keys(directory)
    except ProjectError as error:
        raise UserError(str(error)) from error
