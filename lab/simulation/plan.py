"""What goes wrong in a schedule, and when: drawn from its seed before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from coordinator.core.level import Level
from lab.conditions import Fault, FaultKind

#: (steps, documents in a batch): odd ones have shards of odd sizes.
RUNS = ((6, 8), (5, 5), (8, 12), (4, 1), (3, 31))
MANY = 50  # places for workers that want larger batches
QUIET_SECONDS = 2.0  # that a run takes without faults, about
#: Kinds of faults and how often each is drawn. Those of the first group have a slot (a worker).
SLOT_FAULTS = {
    FaultKind.WORKER_KILLED: 4, FaultKind.WORKER_VANISHED: 2, FaultKind.WORKER_FROZEN: 3,
    FaultKind.CONNECTION_PARTITIONED: 3, FaultKind.CONNECTION_CUT: 4,
    FaultKind.CONNECTION_DELAYED: 2, FaultKind.CONNECTION_CORRUPT: 1,
    FaultKind.WORKER_TERMINATED: 2, FaultKind.WORKER_SLOW: 2, FaultKind.WORKER_CLOCK_JUMPS: 1,
}  # fmt: skip
OTHER_FAULTS = {
    FaultKind.COORDINATOR_KILLED: 3, FaultKind.COORDINATOR_KILLED_WRITING: 2,
    FaultKind.COORDINATOR_FROZEN: 2, FaultKind.COORDINATOR_TERMINATED: 1,
    FaultKind.ALL_PARTITIONED: 1, FaultKind.COORDINATOR_CLOCK_JUMPS: 1, FaultKind.DISK_FULL: 1,
    FaultKind.DISK_SLOW: 1, FaultKind.WORKER_JOINS: 3, FaultKind.FILE_DAMAGED: 1,
}  # fmt: skip
FAULTS = {**SLOT_FAULTS, **OTHER_FAULTS}
#: What members that mean harm do: answer with one wrong bit; say that a document cannot be
#: computed; answer with numbers that make the weights infinite; take work and never answer.
#: Only the first could be believed, so everything is verified there, and the workers live.
WRONG_BIT = "wrong bit"
LIES = (WRONG_BIT, "failure", "huge", "lazy")
ALIKE = (WRONG_BIT, "huge")  # two who agree on a lie are believed where it is put to the vote


@dataclass(frozen=True)
class Plan:
    """One schedule.

    ``byzantine``: workers from this place on, ``num_byzantine`` of them, do ``lie``; None: none do.

    ``eval_every`` 0: nothing is held out. A piece of work takes ``call_seconds`` for each call of
    the engine and ``document_seconds`` for each document, give or take up to a share of ``noise``.
    ``hesitation``: by what the time is multiplied that processes take to connect and to get ready.
    ``worker_timeout``: seconds of silence after which a worker is given up. ``most_queued``: jobs
    that may wait at a worker; what replicas have to do again is more, the longer a run is.
    ``snapshot_every``: see ``coordinator.core.policy``.
    ``start_seconds``: that a process takes from its start until it works, after a failure.
    ``events``: how much the coordinator tells; of what it does not tell nothing is checked.
    ``aggregators``: places for these, between the workers and the coordinator; ``roams``: whether
    a worker looks for any of them when its own is gone.
    """

    seed: int
    steps: int
    batch_size: int
    slots: int
    document_seconds: float
    shard_size: int | None
    checkpoint_every: int
    verify_fraction: float
    faults: tuple[Fault, ...]
    heals_at: float
    stale: float
    twice: float
    detects: bool
    codec: bool
    byzantine: int | None
    eval_every: int
    save_evaluated: bool
    lie: str
    num_byzantine: int
    call_seconds: float = 0.0
    noise: float = 0.5
    hesitation: float = 1.0
    worker_timeout: float = 1.5
    most_queued: int = 8
    snapshot_every: int = 0
    start_seconds: float = 0.0
    events: Level = Level.FULL
    aggregators: int = 0
    roams: bool = False


def make_plan(seed: int, slots: int | None, codec_share: float, aggregators: int = 0) -> Plan:
    """The schedule of a seed. ``slots``: places for workers, or drawn, too.

    Below ``aggregators`` nobody means harm: a wrong sum would be theirs.
    """
    rng = Random(seed)
    steps, batch_size = rng.choice(RUNS)
    places = slots if slots is not None else rng.randint(1, 5)
    if places > MANY:
        steps, batch_size = 3, places  # work for everybody
    # So that a quiet run takes about as long, whatever its size, and faults find it at work.
    pace = QUIET_SECONDS * min(places, batch_size) / (steps * batch_size)
    horizon = QUIET_SECONDS * rng.choice((0.3, 1.0, 1.0, 2.0))
    byzantine = places if rng.random() < 0.04 and places >= 2 and slots is None else None
    calm = byzantine is not None
    harm = Random(~seed)  # of its own: schedules without it stay as they were
    lie = WRONG_BIT if calm else harm.choice(LIES[1:])
    if not calm and slots is None and harm.random() < 0.05:
        byzantine = places
    kinds = [FaultKind.WORKER_SLOW] if calm else list(FAULTS)
    if rng.random() < 0.5 and not calm:  # few kinds, often: they meet more often than among many
        kinds = rng.sample(kinds, rng.randint(1, 4))
    number = rng.choice((0, 1, 2, 4, 6, 9, 13)) * max(1, places // 20)
    if aggregators:
        byzantine, calm = None, False
    faults = sorted(
        (_fault(rng, kinds, places + aggregators, horizon) for _ in range(number)),
        key=lambda fault: fault.at,
    )
    return Plan(
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        slots=places,
        document_seconds=pace,
        shard_size=rng.choice((None, None, 1, 2, 4)),
        checkpoint_every=rng.choice((1, 2, 2, 3, 100)),
        verify_fraction=1.0 if calm else rng.choice((0.0, 0.0, 0.0, 0.3, 1.0)),
        faults=tuple(faults),
        heals_at=max((fault.at + fault.seconds for fault in faults), default=0.0),
        stale=rng.choice((0.0, 0.5)),
        twice=rng.choice((0.0, 0.3, 0.6)),
        detects=rng.random() < 0.6,
        codec=rng.random() < codec_share,
        byzantine=byzantine,
        eval_every=rng.choice((0, 0, 1, 2, 3)),
        save_evaluated=rng.random() < 0.5,
        lie=lie,
        num_byzantine=1 if lie in ALIKE else harm.randint(1, 3),
        aggregators=aggregators,
        roams=aggregators > 0 and rng.random() < 0.5,
    )


def _fault(rng: Random, kinds: list[FaultKind], slots: int, horizon: float) -> Fault:
    (kind,) = rng.choices(kinds, [FAULTS[kind] for kind in kinds])
    seconds = rng.choice((0.05, 0.3, 1.0, 2.5)) * rng.uniform(0.5, 1.5)
    return Fault(rng.uniform(0.0, horizon), kind, rng.randrange(slots), seconds, rng.random())
