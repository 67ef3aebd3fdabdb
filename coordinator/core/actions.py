"""What a coordinator's core can decide to do: its actions, performed by the shell. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from coordinator.core.events import Event
from coordinator.core.inputs import Peer
from microgpt.protocol.messages import Message, Task, Weights
from microgpt.support.records import record
from microgpt.training import TrainingState


@record(frozen=True)
class Send:
    """Send ``message`` to ``peer`` if it is still there."""

    peer: Peer
    message: Message


@dataclass(frozen=True)
class Save:
    """Write a checkpoint of ``state``. One that still waits may be skipped for a newer one."""

    state: TrainingState


@dataclass(frozen=True)
class RecordStep:
    """A step has been applied; ``record`` is its line of metrics."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Judge:
    """Compute a shard on this host and report it as ``Judged``: workers cannot settle it.

    ``before``: what a replica whose part it is must be told and do again first.
    """

    task: Task
    weights: Weights
    before: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Finish:
    """The run is over: ``done``, ``stopped`` or ``failed``."""

    outcome: str
    reason: str


Action: TypeAlias = Send | Save | RecordStep | Judge | Finish | Event
