"""How many tasks each replica of a run has been given: its clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from microgpt.replicas.state import Assignment, ReplicaLog
from microgpt.strategies.base import LocalSteps, Result, Round
from microgpt.strategies.opened import OpenRound


class ReplicaClocks:
    """Those of replicas with these ``logs``; ``updates``: how many the run makes."""

    def __init__(self, logs: Iterable[ReplicaLog], updates: int) -> None:
        self._clocks = {log.replica: log.clock for log in logs}
        self._updates = updates

    def assign(self, round: Round) -> tuple[Assignment, ...]:
        """The next task of each replica of the round."""
        task, assignments = round.task, []
        for replica in round.replicas:
            clock = self._clocks.get(replica, 0)
            self._clocks[replica] = clock + 1
            steps, elastic, updates = 0, 0.0, 1
            if isinstance(task, LocalSteps):
                steps, elastic, updates = task.steps, task.elastic, self._updates
            where = replica, clock, round.version
            assignments.append(Assignment(*where, steps, elastic, updates))
        return tuple(assignments)

    def take_back(self, opened: OpenRound, results: Sequence[Result]) -> None:
        """A replica that was too late for a round has not done its task: it is as it was before."""
        if opened.assignments:
            done = {result.replica for result in results}
            for assignment in opened.assignments:
                if assignment.replica not in done:
                    self._clocks[assignment.replica] = assignment.clock
