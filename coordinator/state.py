"""All decisions of the coordinator: an event and the time in, actions out. No I/O, no clock.

Whatever happens here, the arithmetic of ``microgpt.training`` decides the bits: shards may be given
away twice, lost and given again, answered late or in any order, and the run comes out the same.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coordinator.events import (
    Action,
    Disconnected,
    Event,
    Finish,
    Misbehaved,
    Note,
    Peer,
    Received,
    Save,
    Saved,
    Send,
    StepDone,
    StopRequested,
    Tick,
)
from coordinator.ledger import StepLedger
from coordinator.sharding import choose_shard_size, choose_verified
from microgpt import messages
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.reduction import Shard, shards
from microgpt.training import Corpus, TrainingState, advance, count_tokens, rate
from microgpt.vectors import vector_from_map, vector_to_map

SLOW_FACTOR = 4.0  # a shard is a straggler after this many times the usual time of one
SLOW_LEAST = 0.25  # seconds below which nobody is called a straggler
REMEMBERED_TIMES = 64


@dataclass(frozen=True)
class Policy:
    """How the run is conducted; none of this has any influence on its bits.

    ``shard_size`` None means: chosen anew for each step from the number of workers. Times are in
    seconds. ``verify_fraction`` of the shards are computed by two workers and compared.
    """

    shard_size: int | None = None
    checkpoint_every: int = 100
    worker_timeout: float = 1.5
    verify_fraction: float = 0.0


@dataclass
class Worker:
    """What the coordinator knows of a worker it has welcomed."""

    peer: Peer
    number: int
    name: str
    engine: str
    heard: float
    weights_step: int = -1
    documents: int = 0
    busy_seconds: float = 0.0
    owed: set[Shard] = field(default_factory=set)


class CoordinatorState:
    """The coordinator of run ``run`` in its life ``life``; see ``handle``.

    ``workers`` maps peers to workers in the order in which they joined; ``training`` is the newest
    state; ``closing`` is None while training goes on, else the outcome that is being carried out.
    """

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        training: TrainingState,
        policy: Policy,
        *,
        run: str,
        life: str,
    ) -> None:
        self.config, self.corpus, self.training, self.policy = config, corpus, training, policy
        self.run, self.life = run, life
        self.shapes = parameter_shapes(config.model)
        self.workers: dict[Peer, Worker] = {}
        self.joined = 0
        self.closing: Finish | None = None
        self.finished = False
        self._times: deque[float] = deque(maxlen=REMEMBERED_TIMES)  # seconds per document
        self._now = 0.0
        self._actions: list[Action] = []
        self._previous: StepLedger | None = None
        self._idle_noted = False

    # --- the one entrance ------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin. The first actions save the state that the run begins with."""
        self._now, self._actions = now, []
        self._saved_step = self.training.step
        self._actions.append(Save(self.training, wait=True))
        if self.training.step >= self.config.steps:
            self._close(Finish("done", "the run was complete already"))
        else:
            self._begin_step()
            self._note_idle()
        return self._actions

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at ``now`` (seconds of any steady clock); return what to do."""
        gap, self._now, self._actions = now - self._now, now, []
        if self.finished:
            return []
        if gap > self.policy.worker_timeout / 2:
            # The coordinator itself stood still: its silence is not the workers' fault.
            for worker in self.workers.values():
                worker.heard += gap
        _HANDLERS[type(event)](self, event)
        return self._actions

    # --- events ----------------------------------------------------------------------------------

    def _on_received(self, event: Received) -> None:
        message, peer = event.message, event.peer
        if isinstance(message, messages.Hello):
            self._welcome(peer, message)
            return
        worker = self.workers.get(peer)
        if worker is None:
            if not isinstance(message, messages.Goodbye):
                self._send(peer, messages.Introduce(self.run, self.life))
            return
        worker.heard = self._now
        if (message.run, message.life) != (self.run, self.life):
            return  # words meant for an earlier life of this coordinator
        if isinstance(message, messages.Answer):
            self._on_answer(worker, message)
        elif isinstance(message, messages.Failure):
            self._on_failure(worker, message)
        elif isinstance(message, messages.Status):
            text = f"{worker.name}: {printable(message.text, 200)}"
            self._note("status", text, worker=worker.name)
        elif isinstance(message, messages.Goodbye):
            self._remove(worker, "left", f"{worker.name} has left")
            self._dispatch()
        elif not isinstance(message, messages.Heartbeat):
            self._on_misbehaved(Misbehaved(peer, f"a worker does not send {type(message)}"))

    def _on_misbehaved(self, event: Misbehaved) -> None:
        worker = self.workers.get(event.peer)
        if worker is not None:
            self._send(event.peer, messages.Refuse(self.run, self.life, event.reason[:500]))
            self._remove(worker, "expelled", f"{worker.name} is cut off: {event.reason}")
            self._dispatch()

    def _on_disconnected(self, event: Disconnected) -> None:
        worker = self.workers.get(event.peer)
        if worker is not None:
            self._remove(worker, "lost", f"{worker.name} is gone: its connection has closed")
            self._dispatch()

    def _on_tick(self, event: Tick) -> None:
        limit = self.policy.worker_timeout
        for worker in list(self.workers.values()):
            silence = self._now - worker.heard
            if silence > limit:
                self._remove(worker, "silent", f"{worker.name} is silent for {silence:.1f} s")
        self._dispatch()
        if self.closing is None and not self.ledger.queue:
            self._back_up_stragglers()

    def _on_saved(self, event: Saved) -> None:
        if event.error:
            note = f"checkpoint of step {event.step} not saved: {event.error}"
            self._note("checkpoint_failed", note, warning=True, step=event.step)
        else:
            self._note("checkpoint", f"checkpoint of step {event.step} saved", step=event.step)
        if self.closing and event.step == self.training.step:
            if event.error and self.closing.outcome != "failed":
                self.closing = Finish("failed", f"the last checkpoint is missing: {event.error}")
            self._actions.append(self.closing)
            self.finished = True

    def _on_stop(self, event: StopRequested) -> None:
        if self.closing is None:
            self._close(Finish("stopped", f"stopped after step {self.training.step}"))

    # --- workers ---------------------------------------------------------------------------------

    def _welcome(self, peer: Peer, hello: messages.Hello) -> None:
        if self.closing is not None:
            self._send(peer, messages.Stop(self.run, self.life, self.closing.reason))
            return
        known = self.workers.get(peer)
        if known is None:
            self.joined += 1
            name = printable(hello.name, 40) or f"worker {self.joined}"
            known = Worker(peer, self.joined, name, printable(hello.engine, 20), self._now)
            self.workers[peer] = known
            text = f"{known.name} has joined ({known.engine} engine)"
            self._note("joined", text, worker=known.name, engine=known.engine)
        else:  # it has not seen the first welcome, or has lost its state
            self._release(known)
        known.heard, known.weights_step = self._now, -1
        model = self.config.model.to_dict()
        timeout = float(self.policy.worker_timeout)
        self._send(peer, messages.Welcome(self.run, self.life, known.number, timeout, model))
        self._dispatch()

    def _remove(self, worker: Worker, kind: str, text: str) -> None:
        freed = self._release(worker)
        del self.workers[worker.peer]
        details = {"worker": worker.name, "shards": [[s.start, s.count] for s in freed]}
        more = f"; its {len(freed)} unfinished shard(s) go to others" if freed else ""
        if self.closing is None:  # else it leaves because it was told to
            self._note(kind, text + more, warning=kind != "left", **details)
            self._note_idle()

    def _release(self, worker: Worker) -> list[Shard]:
        worker.owed.clear()
        return self.ledger.release(worker.peer) if self.closing is None else []

    def _note_idle(self) -> None:
        """Say once that nobody is there to work, each time that becomes true."""
        if not self.workers and self.closing is None:
            self._note("waiting", f"waiting for workers at step {self.training.step + 1}")

    # --- shards ----------------------------------------------------------------------------------

    def _begin_step(self) -> None:
        step = self.training.step
        batch_size = self.config.batch_size
        self._documents = self.corpus.batch(step, batch_size)
        self._weights: messages.Weights | None = None
        self._began = self._now
        self._cut_for = len(self.workers)
        size = self.policy.shard_size
        if size is None:
            size = choose_shard_size(batch_size, len(self.workers), self._usual_time())
        verified = choose_verified(shards(batch_size, size), step, self.policy.verify_fraction)
        self.ledger = StepLedger(step, batch_size, size, verified)

    def _usual_time(self) -> float | None:
        """Median seconds per document of the last answers; None before the first."""
        return statistics.median(self._times) if self._times else None

    def _dispatch(self) -> None:
        """Give every idle worker a shard while any is queued, then look for stragglers."""
        if self.closing is not None or not self.workers:
            return
        if self.ledger.untouched and self._cut_for != len(self.workers):
            self._begin_step()  # nobody has begun: cut the batch for those who are here now
        if len(self.workers) == 1:
            self.ledger.waive_verification()
        for worker in self.workers.values():
            if not worker.owed:
                shard = self.ledger.take(worker.peer, self._now)
                if shard is not None:
                    self._hand_out(worker, shard)
                elif not self.ledger.queue:
                    break
        if self.ledger.complete:  # the last missing second opinion may have been waived
            self._finish_step()

    def _back_up_stragglers(self) -> None:
        """Let idle workers compute what a slow one owes; whoever answers first wins."""
        idle = [worker for worker in self.workers.values() if not worker.owed]
        usual = self._usual_time()
        if not idle or usual is None:
            return
        for shard, owners in self.ledger.owners.items():
            if len(owners) != 1 or not idle:
                continue
            ((owner, since),) = owners.items()
            if self._now - since > max(SLOW_LEAST, SLOW_FACTOR * usual * shard.count):
                helper = idle.pop()
                slow = self.workers[owner].name
                text = f"{helper.name} also computes a shard that {slow} is slow with"
                self._note("backup", text, worker=helper.name, slow=slow)
                self.ledger.take_also(shard, helper.peer, self._now)
                self._hand_out(helper, shard)

    def _hand_out(self, worker: Worker, shard: Shard) -> None:
        step = self.ledger.step
        if worker.weights_step != step:
            if self._weights is None:
                weights = vector_to_map(self.training.params, self.shapes)
                self._weights = messages.Weights(self.run, self.life, step, weights)
            self._send(worker.peer, self._weights)
            worker.weights_step = step
        worker.owed.add(shard)
        documents = self._documents[shard.start : shard.start + shard.count]
        self._send(
            worker.peer,
            messages.Task(
                self.run,
                self.life,
                step,
                shard.start,
                shard.count,
                tuple(tuple(document) for document in documents),
            ),
        )

    def _on_answer(self, worker: Worker, answer: messages.Answer) -> None:
        shard = Shard(answer.start, answer.count)
        worker.owed.discard(shard)
        ledger = self._ledger_of(answer.step)
        if ledger is None or shard not in ledger.contributions:
            self._dispatch()  # an answer of the past; its giver may be idle now
            return
        try:
            gradient = vector_from_map(answer.gradient, self.shapes)
            losses = np.frombuffer(answer.losses, "<f8")
            if len(losses) != shard.count:
                raise ValueError(f"{len(losses)} losses for {shard.count} documents")
            if not (np.isfinite(gradient).all() and np.isfinite(losses).all()):
                raise ValueError("a loss or a gradient is not a finite number")
        except ValueError as error:
            self._on_misbehaved(Misbehaved(worker.peer, f"its answer is malformed: {error}"))
            return
        worker.documents += shard.count
        worker.busy_seconds += answer.seconds
        self._times.append(answer.seconds / shard.count)
        differing = ledger.answer(worker.peer, shard, answer, gradient)
        if differing is not None:
            self._report_difference(worker, differing, answer)
        self._dispatch()

    def _ledger_of(self, step: int) -> StepLedger | None:
        """The books of this step or of the one before, to compare late answers with."""
        if self.closing is None and step == self.ledger.step:
            return self.ledger
        return self._previous if self._previous and step == self._previous.step else None

    def _report_difference(self, worker: Worker, other: Peer, answer: messages.Answer) -> None:
        known = self.workers.get(other)
        name = known.name if known else "a worker that has left"
        text = (
            f"{worker.name} and {name} gave different answers for documents {answer.start} to "
            f"{answer.start + answer.count - 1} of step {answer.step + 1}: one of them is broken"
        )
        self._note("difference", text, warning=True, workers=[name, worker.name], step=answer.step)

    def _on_failure(self, worker: Worker, failure: messages.Failure) -> None:
        if self.closing is not None or failure.step != self.ledger.step:
            return
        if failure.document >= self.config.batch_size:
            self._on_misbehaved(Misbehaved(worker.peer, "its failure names no document"))
            return
        document = self.corpus.tokenizer.decode(self._documents[failure.document])
        reason = (
            f"step {failure.step + 1}, document {failure.document + 1} of the batch "
            f"({document[:40]!r}): {failure.reason}; a lower --learning-rate may help"
        )
        self._close(Finish("failed", reason))

    # --- steps -----------------------------------------------------------------------------------

    def _finish_step(self) -> None:
        ledger, before = self.ledger, self.training
        self.training = advance(self.config, before, ledger.gradient_sum(), ledger.losses())
        self._actions.append(StepDone(self._record(before.step)))
        self._previous = ledger
        step = self.training.step
        if not (np.isfinite(self.training.params).all()):
            self.training = before
            self._close(Finish("failed", f"step {step} makes a weight infinite or undefined"))
        elif step >= self.config.steps:
            self._close(Finish("done", f"all {step} steps are done"))
        else:
            if step % self.policy.checkpoint_every == 0:
                self._actions.append(Save(self.training))
            self._begin_step()
            self._dispatch()

    def _record(self, step: int) -> Mapping[str, Any]:
        return {
            "step": step + 1,
            "loss": self.training.losses[-1],
            "lr": rate(self.config, step),
            "documents": self.config.batch_size,
            "tokens": count_tokens(self.config, self._documents),
            "seconds": self._now - self._began,
            "workers": len(self.workers),
            "shards": len(self.ledger.all),
        }

    def _close(self, finish: Finish) -> None:
        """Send everybody home and save; the run is finished once that is on disk."""
        self.closing = finish
        for worker in self.workers.values():
            self._send(worker.peer, messages.Stop(self.run, self.life, finish.reason))
        self._actions.append(Save(self.training, wait=True))

    # --- actions ---------------------------------------------------------------------------------

    def _send(self, peer: Peer, message: messages.Message) -> None:
        self._actions.append(Send(peer, message))

    def _note(self, kind: str, text: str, *, warning: bool = False, **details: Any) -> None:
        self._actions.append(Note(kind, text, details, warning))


def printable(text: str, length: int) -> str:
    """A stranger's text, harmless in a log and on a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[:length])


_HANDLERS: dict[type[Any], Callable[[CoordinatorState, Any], None]] = {
    Received: CoordinatorState._on_received,
    Misbehaved: CoordinatorState._on_misbehaved,
    Disconnected: CoordinatorState._on_disconnected,
    Tick: CoordinatorState._on_tick,
    Saved: CoordinatorState._on_saved,
    StopRequested: CoordinatorState._on_stop,
}
