"""The DEALER socket of a worker, with all that is set on it."""

from __future__ import annotations

import zmq

from microgpt.protocol import messages
from worker.curve import Keys

CONNECTION_TIMEOUT_MS = 2000  # a connection without a sign of life is made anew
RECONNECT_MS = 50
RECONNECT_MAX_MS = 200  # a restarted coordinator should not wait for its workers


def make_socket(context: zmq.Context[zmq.Socket[bytes]], keys: Keys | None) -> zmq.Socket[bytes]:
    """One that is not connected yet, and is encrypted with ``keys`` if there are any."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # queue nothing for a coordinator not there
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, CONNECTION_TIMEOUT_MS // 4)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, CONNECTION_TIMEOUT_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.RCVHWM, 0)  # and a limit of our own, see ReceiveLimit
    if keys is not None:
        keys.apply(socket)
    return socket
