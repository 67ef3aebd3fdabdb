"""What to think of an answer or a failure: whom to believe when workers contradict each other.

A worker that is alone in an opinion against two others is not believed any more. Nothing doubtful
is trained on: where nobody is left to ask, the run ends and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from coordinator.events import Peer
from coordinator.ledger import StepLedger
from coordinator.outbox import Outbox
from microgpt import messages
from microgpt.parameters import Shapes
from microgpt.reduction import Shard
from microgpt.vectors import Vector, vector_from_map

#: Workers that were proved wrong, with the reason.
Disbelieved = list[tuple[Peer, str]]
#: The name of a worker, for people.
Name = Callable[[Peer], str]


def read_gradient(answer: messages.Answer, shapes: Shapes) -> Vector:
    """The gradient of an answer. Raises ValueError if anything is wrong with its numbers."""
    gradient = vector_from_map(answer.gradient, shapes if answer.training else {})
    losses = np.frombuffer(answer.losses, "<f8")
    if len(losses) != answer.count:
        raise ValueError(f"{len(losses)} losses for {answer.count} documents")
    if not (np.isfinite(gradient).all() and np.isfinite(losses).all()):
        raise ValueError("a loss or a gradient is not a finite number")
    return gradient


def hear_answer(
    ledger: StepLedger,
    peer: Peer,
    answer: messages.Answer,
    gradient: Vector,
    name: Name,
    out: Outbox,
) -> Disbelieved:
    """Enter an answer and report it if it contradicts an earlier one."""
    shard = Shard(answer.start, answer.count)
    applied = ", and the step is applied already" if ledger.complete else ""
    where = place(ledger, shard)
    other = ledger.answer(peer, shard, answer, gradient)
    if other is not None:
        names = [name(other), name(peer)]
        text = (
            f"{names[0]} and {names[1]} gave different answers for {where}: one of them is broken"
        )
        out.note("difference", text + applied, warning=True, workers=names, step=ledger.step)
    failed = f"it failed at {where}, which {name(peer)} can compute"
    wrong = f"two others agree against its answer for {where}"
    return [
        *((peer, failed) for peer in ledger.failures.get(shard, ())),
        *((peer, wrong) for peer in ledger.outvoted(shard)),
    ]


def hear_failure(
    ledger: StepLedger, peer: Peer, shard: Shard, reason: str, name: Name
) -> tuple[Disbelieved, str]:
    """Enter that a worker cannot compute a shard; also gives why the run must end, or ""."""
    ledger.fail(peer, shard, reason)
    given = ledger.contributions[shard]
    if given:
        return [(peer, f"it cannot compute what {name(given[0].peer)} can: {reason}")], ""
    return [], reason if len(ledger.failures[shard]) > 1 else ""


def dead_end(ledger: StepLedger, present: Collection[Peer], name: Name) -> str:
    """Why the step cannot be finished by the workers ``present``, or ""."""
    shard = ledger.undecidable(present)
    if shard is None:
        return ""
    for reason in ledger.failures.get(shard, {}).values():
        return reason
    names = " and ".join(name(given.peer) for given in ledger.contributions[shard])
    return (
        f"{names} gave different answers for {place(ledger, shard)}, and no other worker is there "
        "to say which is right: replace the broken one and resume"
    )


def place(ledger: StepLedger, shard: Shard) -> str:
    """A shard, for people."""
    documents = f"documents {shard.start + 1} to {shard.start + shard.count}"
    if ledger.phase.training:
        return f"{documents} of step {ledger.step + 1}"
    return f"held-out {documents} after step {ledger.step}"
