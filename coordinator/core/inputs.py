"""What can happen to a coordinator's core: its inputs. Plain data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeAlias

from coordinator.core.events import Cause
from microgpt.protocol.messages import Failure, Message, ShardResult
from microgpt.support.records import record

#: The transport's name for a connected peer.
Peer: TypeAlias = bytes


@record(frozen=True)
class Received:
    """A well-formed message has come from ``peer``.

    ``host``: the address that a Hello has come from; empty over a socket of this machine.
    """

    peer: Peer
    message: Message
    host: str = ""


@dataclass(frozen=True)
class Misbehaved:
    """Bytes from ``peer`` broke the protocol."""

    cause: ClassVar[Cause] = Cause.PROTOCOL
    peer: Peer
    reason: str


@dataclass(frozen=True)
class KeyRevoked(Misbehaved):
    """The key of ``peer`` has been taken off the list: it must go as who breaks the protocol."""

    cause: ClassVar[Cause] = Cause.KEY


@dataclass(frozen=True)
class Disconnected:
    """The connection over which ``peer`` last spoke is gone."""

    peer: Peer


@dataclass(frozen=True)
class Tick:
    """Time has passed. Comes several times per heartbeat."""


@dataclass(frozen=True)
class Idle:
    """There is nothing to take in at the moment: what comes next can be prepared."""


@dataclass(frozen=True)
class Saved:
    """The checkpoint of ``step`` is on disk; or, with ``error``, could not be put there."""

    step: int
    error: str = ""


@dataclass(frozen=True)
class StopRequested:
    """Somebody wants the run to end now, with its state saved."""


@dataclass(frozen=True)
class Broken:
    """Something in this program has gone wrong that is nobody's fault outside."""

    reason: str


@dataclass(frozen=True)
class Judged:
    """What comes out when a shard is computed on this host; None, and why, if that cannot be."""

    answer: ShardResult | Failure | None
    reason: str = ""


class Wish(StrEnum):
    """What somebody who looks on can ask of a run."""

    PAUSE = "pause"
    RESUME = "resume"
    SAVE = "save"
    LEARNING_RATE = "learning_rate"


@dataclass(frozen=True)
class Asked:
    """``by`` somebody who looks on, ``wish`` is asked for; ``value``: the learning rate."""

    wish: Wish
    by: str
    value: float = 0.0


Input: TypeAlias = (
    Received
    | Misbehaved
    | KeyRevoked
    | Disconnected
    | Tick
    | Idle
    | Saved
    | StopRequested
    | Broken
    | Judged
    | Asked
)
