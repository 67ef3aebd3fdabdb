"""What is known of one connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.core.inputs import Peer
from coordinator.core.tally import Traffic


@dataclass(slots=True)
class Connection:
    """``read``: bytes of it that we have read. ``seen``: those that had come when last looked at.

    ``said``: messages since nobody had anything to say, ``small`` ones among them. ``heard``: one
    has come since ``seen``.
    ``known``: it is or was a member's, ``proven`` one whose answers are accepted. ``cut``: it has
    been broken off.
    ``sent`` and ``received``: bytes of all messages to and from it.
    ``queued`` and ``arrived``: bytes that we have sent, and that have reached the other side.
    ``first``: the sequence number of its first byte, None if the system keeps no limit for it.
    ``window``: bytes that it may have brought until this is moved on. ``dropped``: packets of it
    that the system had not taken in when a message last came. ``garbled``: something came that is
    no message, and nothing else is looked at: to answer all would take time from others. So it is
    where its key has been revoked. ``key``: with which it was let in, once it has said something.
    """

    address: Any
    peer: Peer | None = None
    read: int = 0
    seen: int | None = None
    said: int = 0
    small: int = 0
    heard: bool = False
    known: bool = False
    proven: bool = False
    cut: bool = False
    sent: int = 0
    received: int = 0
    queued: int = 0
    arrived: int = 0
    first: int | None = None
    window: int = 0
    dropped: int = 0
    garbled: bool = False
    key: bytes = b""

    @property
    def traffic(self) -> Traffic:
        """What has gone over it."""
        return Traffic(self.sent, self.received)

    @property
    def host(self) -> str:
        """The address at the other end; empty over a socket of this machine."""
        if not isinstance(self.address, tuple):
            return ""
        return str(self.address[0]).removeprefix("::ffff:")  # before one of IPv4, as IPv6 has it
