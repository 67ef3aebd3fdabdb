"""What comes from workers, taken in: who they are, what they say, and that they say nothing."""

from __future__ import annotations

from coordinator.core import events, inputs
from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.closing import Closes
from coordinator.core.judging import Judging
from coordinator.core.membership import Membership, Worker
from coordinator.core.results import Results
from coordinator.core.scheduler import Scheduler
from microgpt.protocol import messages


class WorkerInputs:
    """Of the workers of run ``run`` in epoch ``epoch``, who have ``timeout`` seconds to say
    something.

    Where a method returns a bool, that says whether there may be more to do now.
    """

    def __init__(
        self,
        out: ActionBuffer,
        run: str,
        epoch: str,
        timeout: float,
        membership: Membership,
        scheduler: Scheduler,
        judging: Judging,
        results: Results,
        closes: Closes,
    ) -> None:
        self._out, self._run, self._epoch, self._timeout = out, run, epoch, timeout
        self._membership, self._scheduler, self._judging = membership, scheduler, judging
        self._results, self._closes = results, closes

    def received(self, event: inputs.Received, now: float) -> bool:
        """A message, of whomever."""
        message, worker = event.message, self._membership.workers.get(event.peer)
        ours = message.epoch == self._epoch and message.run == self._run
        if ours and worker is not None and isinstance(message, messages.ShardResult):
            worker.heard = now
            self._results.take_result(worker, message, now)
            return True
        if isinstance(message, messages.Hello):
            return self._membership.welcome(event.peer, message, now, event.host)
        if worker is None:
            if not isinstance(message, messages.Goodbye):
                self._membership.reregister(event.peer)
            return False
        if isinstance(message, messages.Goodbye):
            self._membership.remove(worker, events.Left)
            return True
        worker.heard = now
        if not ours:
            # Meant for an earlier epoch, sent before our welcome came or because it never did.
            if now - worker.welcomed > self._timeout / 2:
                self._membership.reregister(event.peer)
            self._results.ignore(worker, message)
            return False
        return self._of_member(worker, message, now)

    def _of_member(self, worker: Worker, message: messages.Message, now: float) -> bool:
        """A member's message of this run and epoch."""
        if isinstance(message, messages.Failure):
            self._results.take_failure(worker, message, now)
        elif isinstance(message, messages.Heartbeat):
            if worker.ready or not message.ready:
                return False
            self._membership.make_ready(worker)
        elif isinstance(message, messages.Status):
            said = printable(message.text, 200)
            self._out.tell(events.Status(worker.number, worker.name, said))
            return False
        else:
            what = f"a worker does not send {type(message).__name__}"
            self._membership.expel(worker, events.Cause.PROTOCOL, what)
        return True

    def misbehaved(self, event: inputs.Misbehaved) -> bool:
        """Somebody broke the protocol, or may be here no longer."""
        if worker := self._membership.workers.get(event.peer):
            self._membership.expel(worker, event.cause, event.reason)
        return worker is not None

    def disconnected(self, event: inputs.Disconnected) -> bool:
        """Somebody's connection is gone."""
        if worker := self._membership.workers.get(event.peer):
            self._membership.remove(worker, events.Lost)
        return worker is not None

    def remove_faulty(self, event: inputs.Received | inputs.Misbehaved, error: Exception) -> None:
        """Part with a peer whose message could not be handled; what was done for others stands."""
        what = type(event.message if isinstance(event, inputs.Received) else event).__name__
        reason = (
            f"handling its {what} failed ({type(error).__name__}: {printable(str(error), 100)})"
        )
        if worker := self._membership.workers.get(event.peer):
            for round in self._scheduler.rounds.open.values():
                round.ledger.strike_out(event.peer)
            self._membership.expel(worker, events.Cause.FAULT, reason)
        else:
            self._out.tell(events.Expelled(0, "", 0, events.Cause.FAULT, reason))
            self._membership.bar(event.peer, reason)

    def audit(self) -> None:
        """Raise AssertionError if a ledger is not in order: nothing can be built on it."""
        for round in self._scheduler.rounds.open.values():
            round.ledger.audit()

    def see_to_slow_ones(self, now: float) -> None:
        """Time has passed: let others help where somebody takes too long."""
        stragglers, ready = self._scheduler.stragglers, self._membership.ready
        stragglers.back_up(ready, now)
        stragglers.demote_late(ready, now)
        if failure := stragglers.unconfirmed_failure(now):
            self._judging.ask(*failure)
