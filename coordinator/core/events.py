"""What can happen to a coordinator, and what it can decide to do. Plain data, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from microgpt.protocol.messages import Failure, Message, ShardResult, Task, Weights
from microgpt.training import TrainingState

#: The transport's name for a connected peer.
Peer: TypeAlias = bytes


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """A well-formed message has come from ``peer``."""

    peer: Peer
    message: Message


@dataclass(frozen=True)
class Misbehaved:
    """Bytes from ``peer`` broke the protocol."""

    peer: Peer
    reason: str


@dataclass(frozen=True)
class Disconnected:
    """The connection over which ``peer`` last spoke is gone."""

    peer: Peer


@dataclass(frozen=True)
class Tick:
    """Time has passed. Comes several times per heartbeat."""


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


Event: TypeAlias = (
    Received | Misbehaved | Disconnected | Tick | Saved | StopRequested | Broken | Judged
)


# --- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send ``message`` to ``peer`` if it is still there."""

    peer: Peer
    message: Message


@dataclass(frozen=True)
class Save:
    """Write a checkpoint of ``state``. One that still waits may be skipped for a newer one."""

    state: TrainingState


@dataclass(frozen=True)
class StepDone:
    """A step has been applied; ``record`` is its line of metrics."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """Something worth a line in the log and in events.jsonl. ``kind`` is for machines."""

    kind: str
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    warning: bool = False


@dataclass(frozen=True)
class Judge:
    """Compute a shard on this host and report it as ``Judged``: workers cannot settle it."""

    task: Task
    weights: Weights


@dataclass(frozen=True)
class Finish:
    """The run is over: ``done``, ``stopped`` or ``failed``."""

    outcome: str
    reason: str


Action: TypeAlias = Send | Save | StepDone | Note | Judge | Finish
