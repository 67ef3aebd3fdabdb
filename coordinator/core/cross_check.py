"""What to think of an answer or a failure: whom to believe when workers contradict each other.

Nothing doubtful is trained on: where workers contradict each other, or nobody is left to ask, the
shard is computed on this host, and who has said something else is not believed any more. Only if
that cannot be done do workers outvote each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from coordinator.core import event_text
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.events import Difference
from coordinator.core.in_flight import RoundId
from coordinator.core.inputs import Peer
from coordinator.core.round_ledger import RoundLedger
from microgpt.compression import feedback
from microgpt.compression.base import CompressionError
from microgpt.numerics.vectors import Vector, all_finite, vector_from_bytes, vector_from_map
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment
from microgpt.replicas.work import Recipe, check_state, seed_of
from microgpt.support.user_class import OwnCodeError

#: No gradient or loss of a training that goes well is as large.
INCREDIBLE = 1e30
#: Workers that were proved wrong, with the reason.
Refuted = list[tuple[Peer, str]]
#: The name of a worker, for people.
Name = Callable[[Peer], str]


def read_gradient(
    answer: messages.ShardResult,
    shapes: Shapes,
    assignment: Assignment | None = None,
    recipe: Recipe | None = None,
    *,
    snapshot: bool = False,
) -> Vector:
    """The gradient of an answer, or the vector of a replica with this ``assignment``.

    ``snapshot``: whether the replica's state was to come along.
    Raises ValueError if anything is wrong with its numbers.
    """
    if assignment is not None and recipe is not None:
        gradient = _read_replica(answer, shapes, assignment, recipe, snapshot)
    elif isinstance(answer, messages.ReplicaResult):
        raise ValueError("it is a replica's, and no replica was asked")
    else:
        gradient = vector_from_map(answer.gradient, shapes if answer.training else {})
    losses = vector_from_bytes(answer.losses)
    if len(losses) != answer.count:
        raise ValueError(f"{len(losses)} losses for {answer.count} documents")
    if not (all_finite(gradient) and all_finite(losses)):
        raise ValueError("a loss or a gradient is not a finite number")
    return gradient


def _read_replica(
    answer: messages.ShardResult,
    shapes: Shapes,
    assignment: Assignment,
    recipe: Recipe,
    snapshot: bool,
) -> Vector:
    """The vector of a replica, decompressed; its state is looked at, too. Raises ValueError."""
    if not isinstance(answer, messages.ReplicaResult):
        raise ValueError("it is not a replica's, as was asked")
    wanted = recipe.layout(assignment, shapes) if snapshot else {}
    check_state({name: vector_from_bytes(x) for name, x in answer.state.items()}, wanted)
    if recipe.compressor is None:
        if answer.payload:
            raise ValueError("it is compressed, which was not agreed")
        return vector_from_map(answer.gradient, shapes)
    if answer.gradient:
        raise ValueError("it is not compressed, as was agreed")
    seed = seed_of(recipe.seed, assignment.replica, assignment.clock)
    try:
        return feedback.decompress(recipe.compressor, answer.payload, shapes, seed)
    except (CompressionError, OwnCodeError) as error:
        raise ValueError(str(error)) from error


def take_result(
    ledger: RoundLedger,
    peer: Peer,
    shard: Shard,
    answer: messages.ShardResult,
    gradient: Vector,
    name: Name,
    out: ActionBuffer,
) -> Refuted | None:
    """Enter an answer for a shard and report it if it contradicts an earlier one.

    None if it is all that was wanted and said of the shard, as nearly always.
    """
    applied = bool(ledger.contributions[shard]) and ledger.complete
    other = ledger.answer(peer, shard, answer, gradient)
    if ledger.undisputed(shard):
        return None
    if other is not None:
        names = name(other), name(peer)
        out.tell(Difference(*ledger.round.shard_fields(shard), names, applied))
    return contradicted(ledger, shard, name(peer))


def contradicted(ledger: RoundLedger, shard: Shard, by: str) -> Refuted:
    """Whom the newest answer for a shard, of ``by``, has proved wrong."""
    answered = ledger.voting and ledger.contributions[shard]
    if not (ledger.judged(shard) or answered):
        return []
    where = place(ledger.round, shard)
    failed = f"it failed at {where}, which {by} can compute"
    wrong = f"two others agree against its answer for {where}"
    if ledger.judged(shard):
        wrong = f"{where} come to something else when computed by the coordinator"
    return [
        *((peer, failed) for peer in ledger.failures.get(shard, ())),
        *((peer, wrong) for peer in outvoted(ledger, shard)),
    ]


def outvoted(ledger: RoundLedger, shard: Shard) -> list[Peer]:
    """Workers whose answers for the shard are not its result."""
    result = ledger.result(shard)
    given = ledger.contributions[shard] if result is not None else []
    return [c.peer for c in given if result is not None and not c.same_bits(result)]


def supporters(ledger: RoundLedger, shard: Shard) -> list[Peer]:
    """Workers whose answers for the shard are its result."""
    result = ledger.result(shard)
    given = ledger.contributions[shard] if result is not None else []
    return [c.peer for c in given if result is not None and c.same_bits(result)]


def incredible(ledger: RoundLedger, peer: Peer) -> bool:
    """Whether the worker has answered numbers so large that they prove nothing."""
    answers = (c for given in ledger.contributions.values() for c in given if c.peer == peer)
    return any(answer.largest() > INCREDIBLE for answer in answers)


def largest(ledger: RoundLedger) -> Shard | None:
    """The shard with the largest number among those not computed on this host, if any is left.

    The ledger is complete.
    """
    results = {shard: ledger.result(shard) for shard in ledger.all if not ledger.judged(shard)}
    sizes = {shard: result.largest() for shard, result in results.items() if result}
    return max(sizes, key=lambda shard: sizes[shard], default=None)


def incredible_shard(ledger: RoundLedger) -> Shard | None:
    """A shard whose result, not computed on this host, is so large that it proves nothing."""
    shard = largest(ledger)
    result = ledger.result(shard) if shard is not None else None
    return shard if result is not None and result.largest() > INCREDIBLE else None


def take_failure(
    ledger: RoundLedger, peer: Peer, shard: Shard, reason: str, now: float, name: Name
) -> Refuted:
    """Enter that a worker cannot compute a shard."""
    ledger.fail(peer, shard, reason, now)
    given = ledger.contributions[shard]
    if ledger.judged(shard) or (given and ledger.voting):
        who = "the coordinator" if ledger.judged(shard) else name(given[0].peer)
        return [(peer, f"it cannot compute what {who} can: {reason}")]
    return []


def dead_end(
    ledger: RoundLedger, present: Collection[Peer], name: Name
) -> tuple[Shard, str] | None:
    """A shard that the workers ``present`` cannot settle, and what they say; None if none is.

    They cannot where they contradict each other, where two say that it cannot be computed, or
    where no other is left to be asked.
    """
    contested = ledger.first_contested()
    if contested is not None:
        return contested, contradiction(ledger, contested, name)
    for failed, reasons in ledger.failures.items():
        if len(reasons) > 1 and not ledger.decided(failed):
            return failed, next(iter(reasons.values()))
    shard = ledger.undecidable(present)
    if shard is None:
        return None
    for reason in ledger.failures.get(shard, {}).values():
        return shard, reason
    return shard, contradiction(ledger, shard, name)


def contradiction(ledger: RoundLedger, shard: Shard, name: Name) -> str:
    """Who says different things about a shard, and what to do if that is the end."""
    for reason in ledger.failures.get(shard, {}).values():
        return reason
    names = " and ".join(name(given.peer) for given in ledger.contributions[shard])
    return (
        f"{names} gave different answers for {place(ledger.round, shard)}, and no other worker "
        "is there to say which is right: replace the broken one and resume"
    )


def place(round: RoundId, shard: Shard) -> str:
    """A shard, for people."""
    evaluation = not round.training
    return event_text.place(round.step, shard.start, shard.count, evaluation=evaluation)
