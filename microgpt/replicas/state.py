"""What is known of a replica: its state after some task, and the tasks that it has done since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from microgpt.numerics.vectors import Vector


@dataclass(frozen=True)
class ReplicaState:
    """``clock``: how many tasks the replica has done. ``vectors``: what it keeps, by name.

    Before the first task there are none. Nothing is changed in place.
    """

    clock: int = 0
    vectors: Mapping[str, Vector] = field(default_factory=dict)


class Assignment(NamedTuple):
    """What one replica is to do with its documents: see ``microgpt.replicas.work.compute``.

    ``steps``: 0 for the sum of the documents' gradients, else so many local steps. ``elastic``: how
    far the replica's own weights and the global ones move towards each other after the steps; 0.0
    for a replica that begins each time with the global weights. ``updates``: how many of the
    global weights the run was to have then; the rate of local steps falls to zero over them.
    """

    replica: int
    clock: int
    version: int
    steps: int = 0
    elastic: float = 0.0
    updates: int = 1


@dataclass(frozen=True)
class PastTask:
    """A task that a replica has done after its newest snapshot, so that it can be done again.

    ``count`` documents from place ``first`` of the endless sequence of documents, with the weights
    ``params``, (num_params,) float64.
    """

    assignment: Assignment
    first: int
    count: int
    params: Vector


@dataclass(frozen=True)
class ReplicaLog:
    """A replica as a checkpoint has it: ``snapshot``, and what has been done ``since``, in order.

    Raises ValueError if the tasks do not follow each other.
    """

    replica: int
    snapshot: ReplicaState = ReplicaState()
    since: tuple[PastTask, ...] = ()

    def __post_init__(self) -> None:
        for clock, task in enumerate(self.since, self.snapshot.clock):
            if (task.assignment.replica, task.assignment.clock) != (self.replica, clock):
                raise ValueError(f"the tasks of replica {self.replica} do not follow each other")

    @property
    def clock(self) -> int:
        """How many tasks the replica has done."""
        return self.snapshot.clock + len(self.since)
