"""The workers that the coordinator has welcomed: how they come, go and are cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.event_json import kind_of
from coordinator.core.events import (
    Cause,
    Expelled,
    Joined,
    Left,
    Lost,
    OtherPlatform,
    Ready,
    Silent,
    Waiting,
)
from coordinator.core.in_flight import InFlight, Work
from coordinator.core.inputs import Peer
from coordinator.core.tally import Tally
from coordinator.core.work_times import Typical
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages

HELLO_SECONDS = 0.2  # a Hello so soon after a welcome has crossed it, or asks for weights in vain
REMEMBERED = 1000  # peers that have been cut off
MISSED, MISSED_SECONDS = 16, 300.0  # workers, and for how long


@dataclass(slots=True)
class Worker:
    """What the coordinator knows of a worker it has welcomed.

    ``in_flight`` is what it has been given and not answered, with the time when it was given:
    ``InFlight``'s view. ``ready``: it has made its engine, and can be given work. ``longest``: the
    time of its slowest answer.
    ``paces``: seconds that it takes for a document, in training (True) and in evaluation (False).
    ``gone``: ``silent`` or ``lost`` if it is here no more, and has not said that it leaves.
    ``proven``: it may be given work that a step waits for, else so many answers are ``to_pass``;
    it has fallen back to that at ``fell_at``, with so many (``falls``). After an answer that was
    not the result it gets no trial for ``pause`` seconds, until ``rests_until``. ``replicas``: for
    which ones it has worked, with which past of theirs, and how many tasks these have done then.
    ``tally``: what it has done, where rounds are recorded.
    """

    peer: Peer
    number: int
    name: str
    engine: str
    heard: float
    in_flight: Mapping[Work, float]
    welcomed: float = 0.0
    ready: bool = False
    weights_step: int = -1
    documents: int = 0
    busy_seconds: float = 0.0
    longest: float = 0.0
    paces: dict[bool, Typical] = field(default_factory=dict)
    gone: str = ""
    proven: bool = False
    to_pass: int = 1
    falls: int = 1
    fell_at: float | None = None
    pause: float = 0.0
    rests_until: float = 0.0
    replicas: dict[int, tuple[int, int]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


class Roster(dict[Peer, Worker]):
    """Workers that can be given work, by their peers, in the order in which they became ready.

    ``changes``: how often one has come or gone, so that what follows from them is found but once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, worker: Worker) -> None:
        """The worker can be given work."""
        self[worker.peer] = worker
        self.changes += 1

    def drop(self, peer: Peer) -> None:
        """It can be given none any more, if it could."""
        if self.pop(peer, None) is not None:
            self.changes += 1


def unnoticed(worker: Worker) -> None:
    """Nobody cares that it goes."""


class Membership:
    """``workers`` by their peers, in the order in which they joined; ``joined`` counts them all.

    ``ready`` are those of them that can be given work. ``missed`` are workers that have gone
    without a word, and not come back under the same name: the newest few, for people to see.
    ``release`` takes from a worker what it has in flight and returns the shards that are others'
    now. ``recipe``: what replicas do, in a run with some. ``farewell`` hears of a worker that is
    ready and goes, while it still has its work.
    """

    def __init__(
        self,
        out: ActionBuffer,
        run: str,
        epoch: str,
        timeout: float,
        model: Mapping[str, int],
        libm: str,
        in_flight: InFlight,
        release: Callable[[Worker], list[Shard]],
        recipe: Mapping[str, str | int | float | bool] | None = None,
        farewell: Callable[[Worker], None] = unnoticed,
    ) -> None:
        self.workers: dict[Peer, Worker] = {}
        self.ready = Roster()
        self.missed: list[Worker] = []
        self.joined = 0
        self._barred: dict[Peer, str] = {}
        self._told_idle = False  # whether people know that nobody is here
        self._dismissed: str | None = None  # why everybody has been sent home, once that is so
        self._out, self._run, self._epoch = out, run, epoch
        self._timeout, self._model, self._libm = float(timeout), model, libm
        self._in_flight, self._release = in_flight, release
        self._recipe, self._farewell = recipe or {}, farewell

    # --- coming ----------------------------------------------------------------------------------

    def welcome(self, peer: Peer, hello: messages.Hello, now: float, host: str = "") -> bool:
        """Somebody at ``host`` offers to work: take it in, begin again with it, or say why not.

        Returns whether it has been welcomed.
        """
        if self._dismissed is not None:
            self._send_home(peer, self._dismissed, hello.attempt)
            return False
        if self._refuse(peer) or self._has_just_been_welcomed(peer, now):
            return False
        if peer in self.workers:  # a message is lost, in whichever direction: begin again
            self._release(self.workers[peer])
        self._take_in(peer, hello, now, host)
        return True

    def _take_in(self, peer: Peer, hello: messages.Hello, now: float, host: str) -> None:
        worker = self.workers.get(peer)
        if worker is None:
            self.joined += 1
            name = printable(hello.name, 40) or f"worker {self.joined}"
            engine = printable(hello.engine, 20)
            worker = Worker(peer, self.joined, name, engine, now, self._in_flight.of(peer))
            self.workers[peer] = worker
            self.missed = [other for other in self.missed if other.name != name]
            self._out.tell(Joined(worker.number, worker.name, worker.engine, host))
            if hello.libm != self._libm:
                self._out.tell(OtherPlatform(worker.number, worker.name))
        worker.heard = worker.welcomed = now
        worker.weights_step = -1
        worker.replicas.clear()
        worker.ready = False
        self.ready.drop(peer)
        self._out.send(peer, self._welcome(worker.number, hello.attempt))

    def _welcome(self, number: int, attempt: int) -> messages.Welcome:
        where = self._run, self._epoch, number, self._timeout
        return messages.Welcome(*where, self._model, self._recipe, attempt)

    def _has_just_been_welcomed(self, peer: Peer, now: float) -> bool:
        """Whether its Hello needs no answer: a welcome is on its way to it, or there."""
        worker = self.workers.get(peer)
        if worker is None or now - worker.welcomed >= HELLO_SECONDS:
            return False
        worker.heard = now
        return True

    def make_ready(self, worker: Worker) -> None:
        """The worker can be given work from now on."""
        worker.ready = True
        self.ready.add(worker)
        self._out.tell(Ready(worker.number, worker.name))

    def reregister(self, peer: Peer) -> None:
        """Ask somebody who is not in, or has missed that, to say Hello."""
        self._out.send(peer, messages.Reregister(self._run, self._epoch))

    # --- going -----------------------------------------------------------------------------------

    def remove(
        self, worker: Worker, why: Callable[[int, str, int], Left | Lost | Silent | Expelled]
    ) -> None:
        """Strike a worker off; what it has in flight is others' now.

        ``why`` makes the event: of its number, its name, and how many shards it had in flight.
        Once all have been dismissed it leaves because it was told to: nothing is said of it.
        """
        if worker.ready and self._dismissed is None:
            self._farewell(worker)
        freed = self._release(worker) if self._dismissed is None else []
        self._in_flight.forget(worker.peer)
        del self.workers[worker.peer]
        self.ready.drop(worker.peer)
        if self._dismissed is not None:
            return
        event = why(worker.number, worker.name, len(freed))
        if isinstance(event, Silent | Lost):
            worker.gone = kind_of(event)
            self.missed = [*self.missed, worker][-MISSED:]
        self._out.tell(event)

    def remove_silent(self, now: float) -> None:
        """Strike off workers that have not been heard of for longer than the timeout."""
        for worker in [*self.workers.values()]:
            silence = now - worker.heard
            if silence > self._timeout:
                self.remove(worker, partial(Silent, seconds=silence))

    def expel(self, worker: Worker, cause: Cause, reason: str) -> None:
        """Cut a worker off that breaks the protocol or computes wrongly."""
        self.bar(worker.peer, reason)
        self.remove(worker, partial(Expelled, cause=cause, reason=reason))

    def bar(self, peer: Peer, reason: str) -> None:
        """Refuse this peer from now on; a new process of the same machine is another peer."""
        self._barred[peer] = reason[:500]
        if len(self._barred) > REMEMBERED:
            del self._barred[next(iter(self._barred))]
        self._refuse(peer)

    def _refuse(self, peer: Peer) -> bool:
        """Tell a peer that it cannot take part, if that is so."""
        reason = self._barred.get(peer)
        if reason is not None:
            self._out.send(peer, messages.Refuse(self._run, self._epoch, reason))
        return reason is not None

    def dismiss(self, reason: str) -> None:
        """There is no more work: send everybody home, and whoever comes from now on."""
        self._dismissed = reason
        for worker in self.workers.values():
            if worker.ready:
                self._farewell(worker)
            self._stop(worker.peer, reason)

    def _stop(self, peer: Peer, reason: str) -> None:
        self._out.send(peer, messages.Stop(self._run, self._epoch, reason))

    def _send_home(self, peer: Peer, reason: str, attempt: int) -> None:
        """Tell somebody who comes too late; a worker obeys nobody who has not welcomed it."""
        self._out.send(peer, self._welcome(0, attempt))
        self._stop(peer, reason)

    # --- for people ------------------------------------------------------------------------------

    def tell_idle(self, version: int) -> None:
        """Say that nobody is here to work on the step after ``version``, when that becomes true."""
        if not self.workers and not self._told_idle:
            self._out.tell(Waiting(version))
        self._told_idle = not self.workers

    def still_missed(self, now: float) -> list[Worker]:
        """Whom we miss, but not for so long that nobody cares any more."""
        self.missed = [w for w in self.missed if now - w.heard <= MISSED_SECONDS]
        return self.missed

    def name(self, peer: Peer) -> str:
        """What people call a worker."""
        worker = self.workers.get(peer)
        return worker.name if worker else "a worker that has left"
