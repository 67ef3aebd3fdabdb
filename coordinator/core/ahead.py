"""The round that comes next, as far as it is prepared before its weights exist.

While workers compute a round, the documents of the one after it are cut, and each worker is told
its first shard of it. So only the weights are under way between two rounds. What was told is no
promise: a shard is queued until its round begins, and goes to others if its worker is not free.
"""

from __future__ import annotations

from collections.abc import Collection

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.inputs import Peer
from coordinator.core.membership import Worker
from coordinator.core.rounds import OpenRound, Rounds
from microgpt.optim.reduction import Shard
from microgpt.strategies import driver

LARGEST_TOLD = 1 << 18  # bytes of documents that a worker is sent beside its work


class Ahead:
    """``told``: the shard that a worker knows already, of the round prepared or begun last."""

    def __init__(self, out: ActionBuffer, rounds: Rounds) -> None:
        self._out, self._rounds = out, rounds
        self._round: OpenRound | None = None  # prepared, and not begun
        self._number = -1  # of the round that ``told`` is of
        self.told: dict[Peer, Shard] = {}

    def prepare(self, opened: driver.OpenRound, staff: Collection[Worker]) -> None:
        """Cut a round whose weights come later, and tell those who are proven and up to date.

        Others may not understand it as we do, or have older weights still to come.
        """
        round = self._round = self._rounds.prepared(opened, staff)
        self._number, self.told = opened.number, {}
        for worker, shard in zip(staff, round.ledger.queue):  # noqa: B905  # either may be longer
            if not worker.proven or worker.weights_step != round.id.step - 1:
                continue
            task = round.order.task_ahead(shard)
            if len(task.tokens) + len(task.lengths) <= LARGEST_TOLD:
                self._out.send(worker.peer, task)
                round.ledger.note_told(shard, worker.peer)
                self.told[worker.peer] = shard

    def begin(self, opened: driver.OpenRound, now: float) -> bool:
        """Begin the round that was prepared, if it is this one."""
        round, self._round = self._round, None
        if round is None or round.id.number != opened.number:
            self.told = {}
            return False
        self._rounds.begin_prepared(round, opened, now)
        return True

    def take(self, worker: Worker, round: OpenRound, now: float) -> Shard | None:
        """Hand the shard to the worker that it was told, if it can still have it."""
        if round.id.number != self._number or worker.peer not in self.told:
            return None
        shard, ledger = self.told.pop(worker.peer), round.ledger
        if shard not in ledger.queue or ledger.involved(shard, worker.peer):
            return None
        ledger.queue.take_first(shard)
        ledger.take_also(shard, worker.peer, now)
        return shard

    def forget(self, peer: Peer) -> None:
        """The worker is gone, or begins again and knows nothing any more."""
        self.told.pop(peer, None)
