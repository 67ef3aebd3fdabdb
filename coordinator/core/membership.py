"""The workers that the coordinator has welcomed, and the words by which they come and go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.inputs import Peer
from coordinator.core.round_ledger import RoundId
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages

HELLO_SECONDS = 0.2  # a Hello so soon after a welcome has crossed it, or asks for weights in vain
REMEMBERED = 1000  # peers that have been cut off
MISSED, MISSED_SECONDS = 16, 300.0  # workers, and for how long


@dataclass
class Worker:
    """What the coordinator knows of a worker it has welcomed.

    ``ready``: it has made its engine, and can be given work. ``in_flight`` are shards that it
    computes, with their rounds; also of a round that is over, as it is not idle before it has
    answered.
    ``since`` is when it was given the newest of them, ``longest`` the time of its slowest answer.
    ``gone``: ``silent`` or ``lost`` if it is here no more, and has not said that it leaves.
    ``proven``: it may be given work that a step waits for, else so many answers are ``to_pass``;
    it has fallen back to that at ``fell_at``, with so many (``falls``). After an answer that was
    not the result it gets no trial for ``pause`` seconds, until ``rests_until``.
    """

    peer: Peer
    number: int
    name: str
    engine: str
    heard: float
    welcomed: float = 0.0
    ready: bool = False
    weights_step: int = -1
    documents: int = 0
    busy_seconds: float = 0.0
    in_flight: set[tuple[RoundId, Shard]] = field(default_factory=set)
    since: float = 0.0
    longest: float = 0.0
    gone: str = ""
    proven: bool = False
    to_pass: int = 1
    falls: int = 1
    fell_at: float | None = None
    pause: float = 0.0
    rests_until: float = 0.0


class Membership:
    """``workers`` by their peers, in the order in which they joined; ``joined`` counts them all.

    ``ready`` are those of them that can be given work. ``missed`` are workers that have gone
    without a word, and not come back under the same name: the newest few, for people to see.
    """

    def __init__(
        self,
        out: ActionBuffer,
        run: str,
        epoch: str,
        timeout: float,
        model: Mapping[str, int],
        libm: str,
    ) -> None:
        self.workers: dict[Peer, Worker] = {}
        self.ready: dict[Peer, Worker] = {}
        self.missed: list[Worker] = []
        self.joined = 0
        self._barred: dict[Peer, str] = {}
        self._out, self._run, self._life = out, run, epoch
        self._timeout, self._model, self._libm = float(timeout), model, libm

    def welcome(self, peer: Peer, hello: messages.Hello, now: float) -> Worker:
        """Take a worker in, or begin again with one that is in already."""
        worker = self.workers.get(peer)
        if worker is None:
            self.joined += 1
            name = printable(hello.name, 40) or f"worker {self.joined}"
            worker = Worker(peer, self.joined, name, printable(hello.engine, 20), now)
            self.workers[peer] = worker
            self.missed = [other for other in self.missed if other.name != name]
            text = f"{worker.name} has joined ({worker.engine} engine)"
            self._out.note("joined", text, worker=worker.name, engine=worker.engine)
            if hello.libm != self._libm:
                self._warn_of_other_bits(worker)
        worker.heard = worker.welcomed = now
        worker.weights_step = -1
        worker.ready = False
        self.ready.pop(peer, None)
        self._out.send(
            peer,
            messages.Welcome(self._run, self._life, worker.number, self._timeout, self._model),
        )
        return worker

    def has_just_welcomed(self, peer: Peer, now: float) -> bool:
        """Whether its Hello needs no answer: a welcome is on its way to it, or there."""
        worker = self.workers.get(peer)
        if worker is None or now - worker.welcomed >= HELLO_SECONDS:
            return False
        worker.heard = now
        return True

    def _warn_of_other_bits(self, worker: Worker) -> None:
        text = (
            f"{worker.name} has another C library or processor, which computes exp, log or powers "
            "to other bits: from here on the run's last bits depend on who computes what"
        )
        self._out.note("platform", text, warning=True, worker=worker.name)

    def make_ready(self, worker: Worker) -> None:
        """The worker can be given work from now on."""
        worker.ready = True
        self.ready[worker.peer] = worker

    def forget(self, worker: Worker) -> None:
        """Strike a worker off without a word."""
        del self.workers[worker.peer]
        self.ready.pop(worker.peer, None)

    def remove(self, worker: Worker, kind: str, text: str, freed: list[Shard]) -> None:
        """Strike a worker off, who owed the shards ``freed``; ``kind`` is why, for machines."""
        self.forget(worker)
        if kind in ("silent", "lost"):
            worker.gone = kind
            self.missed = [*self.missed, worker][-MISSED:]
        details = {"worker": worker.name, "shards": [[s.start, s.count] for s in freed]}
        more = f"; its {len(freed)} unfinished shard(s) go to others" if freed else ""
        self._out.note(kind, text + more, warning=kind != "left", **details)

    def bar(self, peer: Peer, reason: str) -> None:
        """Refuse this peer from now on; a new process of the same machine is another peer."""
        self._barred[peer] = reason[:500]
        if len(self._barred) > REMEMBERED:
            del self._barred[next(iter(self._barred))]
        self.refuse(peer)

    def refuse(self, peer: Peer) -> bool:
        """Tell a peer that it cannot take part, if that is so."""
        reason = self._barred.get(peer)
        if reason is not None:
            self._out.send(peer, messages.Refuse(self._run, self._life, reason))
        return reason is not None

    def reregister(self, peer: Peer) -> None:
        """Ask somebody who is not in, or has missed that, to say Hello."""
        self._out.send(peer, messages.Reregister(self._run, self._life))

    def stop(self, peer: Peer, reason: str) -> None:
        """Tell a worker that there is no more work."""
        self._out.send(peer, messages.Stop(self._run, self._life, reason))

    def send_home(self, peer: Peer, reason: str) -> None:
        """Tell somebody who comes too late; a worker obeys nobody who has not welcomed it."""
        welcome = messages.Welcome(self._run, self._life, 0, self._timeout, self._model)
        self._out.send(peer, welcome)
        self.stop(peer, reason)

    def silent(self, now: float) -> list[Worker]:
        """Workers that have not been heard of for longer than the timeout."""
        return [w for w in self.workers.values() if now - w.heard > self._timeout]

    def still_missed(self, now: float) -> list[Worker]:
        """Whom we miss, but not for so long that nobody cares any more."""
        self.missed = [w for w in self.missed if now - w.heard <= MISSED_SECONDS]
        return self.missed

    def name(self, peer: Peer) -> str:
        """What people call a worker."""
        worker = self.workers.get(peer)
        return worker.name if worker else "a worker that has left"
