"""The rounds of a run as its events tell of them, and which epochs have led to its end.

A run may have several epochs. Each goes on from a checkpoint: often not the last thing that the one
before has done, as that may have been killed. What was done again counts; what it takes the place
of does not, and neither do rounds that were open when an epoch ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from coordinator.core.event_json import kind_of
from coordinator.core.events import (
    DetailEnded,
    Evaluated,
    LearningRateChanged,
    LeftOut,
    Level,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
)

WITH_DOCUMENTS = 2  # version of the events' form since which an epoch tells where it begins


class ReplayError(Exception):
    """A run cannot be replayed, or not as it is recorded; the message is one sentence."""


class Place(NamedTuple):
    """How far a run is: so many updates are made, and so many documents used up."""

    step: int
    documents: int


class Act(NamedTuple):
    """A round opens or closes, as the event in line ``line`` tells."""

    line: int
    event: RoundOpened | RoundClosed


@dataclass
class Epoch:
    """What one start of the coordinator has recorded; ``line`` is that of its ``begun``.

    ``evaluated``: after which steps held-out documents were evaluated. ``rates``: learning rates by
    the version whose update was the first with them.
    """

    line: int
    begun: Started
    acts: list[Act] = field(default_factory=list)
    evaluated: set[int] = field(default_factory=set)
    rates: dict[int, float] = field(default_factory=dict)
    partial: bool = False  # its rounds are recorded up to some moment only

    @property
    def start(self) -> Place:
        """How far the run was."""
        return Place(self.begun.version, self.begun.next_document)

    @property
    def has_rounds(self) -> bool:
        """Whether its rounds are recorded."""
        return self.begun.level.has(Level.ROUNDS) and not self.partial

    def places(self) -> Iterator[Place]:
        """How far the run was after each round, as it is recorded."""
        step, documents = self.start
        sizes: dict[int, int] = {}
        awaited = {a.event.version for a in self.acts if _opens(a) and a.event.evaluation}
        for act in self.acts:
            event = act.event
            if isinstance(event, RoundOpened):
                sizes[event.round] = event.documents
                continue
            documents += 0 if event.evaluation else sizes.get(event.round, 0)
            if event.outcome is RoundOutcome.EVALUATED:
                step = event.version
            elif event.outcome is RoundOutcome.APPLIED and step + 1 not in awaited:
                step += 1
            elif event.outcome is RoundOutcome.APPLIED:
                continue  # the step is done when it is evaluated
            yield Place(step, documents)


def _opens(act: Act) -> bool:
    return isinstance(act.event, RoundOpened)


class Leg(NamedTuple):
    """A part of an epoch: its rounds up to ``until``, or to its end."""

    epoch: Epoch
    until: Place | None


def read(events: Iterable[tuple[int, Recorded]]) -> list[Epoch]:
    """The epochs in a record, whose events come with the numbers of their lines.

    Raises ReplayError if something that is needed has been left out.
    """
    epochs: list[Epoch] = []
    for line, (_, _, event) in events:
        if isinstance(event, Started):
            epochs.append(Epoch(line, event))
        elif isinstance(event, RoundOpened | RoundClosed):
            epochs[-1].acts.append(Act(line, event))
            if isinstance(event, RoundOpened) and event.evaluation:
                epochs[-1].evaluated.add(event.version)
        elif isinstance(event, Evaluated):
            epochs[-1].evaluated.add(event.version)
        elif isinstance(event, LearningRateChanged):
            epochs[-1].rates[event.version] = event.learning_rate
        elif isinstance(event, DetailEnded) and not event.level.has(Level.ROUNDS):
            epochs[-1].acts.clear()  # all of them or none
            epochs[-1].partial = True
        elif isinstance(event, LeftOut) and event.left_out in _NEEDED:
            raise ReplayError(
                f"line {line}: {event.number} events of rounds were left out of the record, as the "
                "disk did not take them: the run cannot be replayed"
            )
    return epochs


_NEEDED = {kind_of(RoundOpened), kind_of(RoundClosed), kind_of(LearningRateChanged)}


def legs(epochs: Sequence[Epoch], *, exact: bool) -> list[Leg]:
    """The parts of the epochs that have led to the end of the last one, oldest first.

    ``exact``: the strategy alone decides what the rounds are, recorded or not. Raises ReplayError.
    """
    found: list[Leg] = []
    until: Place | None = None
    for epoch in reversed(epochs):
        if epoch.begun.schema < WITH_DOCUMENTS or not (exact or epoch.has_rounds):
            raise ReplayError(
                f"line {epoch.line}: an earlier version of this program has recorded this epoch, "
                "and not what is needed to replay it"
            )
        if until is None or _leads(epoch, until, exact):
            found.append(Leg(epoch, until))
            until = epoch.start
        if until.step == 0 and until.documents == 0:
            break
    return found[::-1]


def _leads(epoch: Epoch, until: Place, exact: bool) -> bool:
    """Whether the run was at a place in this epoch, and not only at its beginning."""
    if exact:
        return epoch.start < until
    return until != epoch.start and until in epoch.places()
