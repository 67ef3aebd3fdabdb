"""Which epochs of a record have led to the end of the run."""

from __future__ import annotations

import pytest

from coordinator.core.events import (
    SCHEMA,
    Event,
    LeftOut,
    Level,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
)
from lab.replay.record import Epoch, Place, ReplayError, legs, read

SIZE = 4
APPLIED, DROPPED = RoundOutcome.APPLIED, RoundOutcome.DROPPED


def epoch(start: int, *outcomes: RoundOutcome, documents: int | None = None) -> list[Event]:
    """An epoch after ``start`` steps whose rounds are closed one by one."""
    used = SIZE * start if documents is None else documents
    events: list[Event] = [Started(SCHEMA, "run", "epoch", start, 50, Level.ROUNDS, used)]
    step = start
    for number, outcome in enumerate(outcomes):
        events.append(RoundOpened(number, step, False, used, SIZE))
        events.append(RoundClosed(number, step, False, 1, 1, outcome, workers=1))
        step, used = step + (outcome is APPLIED), used + SIZE
    return events


def evaluated(number: int, version: int) -> list[Event]:
    outcome = RoundOutcome.EVALUATED
    return [
        RoundOpened(number, version, True, 0, 3),
        RoundClosed(number, version, True, 1, 1, outcome, workers=1),
    ]


def epochs_of(*epochs: list[Event]) -> list[Epoch]:
    events = [event for each in epochs for event in each]
    return read((line, Recorded(0.0, 0, event)) for line, event in enumerate(events, 1))


def way(*epochs: list[Event]) -> list[tuple[int, int, Place | None]]:
    """The legs: line of the epoch, first step, and up to where."""
    found = legs(epochs_of(*epochs), exact=False)
    return [(leg.epoch.line, leg.epoch.begun.version, leg.until) for leg in found]


def test_one_epoch_leads_to_its_end() -> None:
    assert way(epoch(0, APPLIED, APPLIED)) == [(1, 0, None)]


def test_what_lies_behind_the_checkpoint_that_is_gone_on_from_does_not_count() -> None:
    found = way(epoch(0, *[APPLIED] * 5), epoch(3, APPLIED, APPLIED))
    assert found == [(1, 0, Place(3, 3 * SIZE)), (12, 3, None)]


def test_an_epoch_that_came_to_nothing_is_no_part_of_the_way() -> None:
    found = way(epoch(0, *[APPLIED] * 3), epoch(2, APPLIED), epoch(2, APPLIED))
    assert found == [(1, 0, Place(2, 2 * SIZE)), (11, 2, None)]


def test_a_run_that_has_begun_again_has_no_past() -> None:
    assert way(epoch(0, APPLIED), epoch(0, APPLIED)) == [(4, 0, None)]


def test_an_older_checkpoint_may_be_gone_on_from() -> None:
    found = way(epoch(0, *[APPLIED] * 4), epoch(4, APPLIED, APPLIED), epoch(1, APPLIED))
    assert found == [(1, 0, Place(1, SIZE)), (15, 1, None)]


def test_documents_that_were_dropped_tell_two_states_of_a_step_apart() -> None:
    first = epoch(0, APPLIED, DROPPED, DROPPED)
    found = way(first, epoch(1, APPLIED, documents=2 * SIZE))
    assert found == [(1, 0, Place(1, 2 * SIZE)), (8, 1, None)]
    # The second epoch has not been where the third begins: it is the first that leads there.
    found = way(first, epoch(0, APPLIED), epoch(1, APPLIED, documents=3 * SIZE))
    assert found == [(1, 0, Place(1, 3 * SIZE)), (11, 1, None)]


def test_a_step_is_done_when_it_is_evaluated() -> None:
    events = [*epoch(0, APPLIED), *evaluated(1, 1)]
    assert way(events, epoch(1, APPLIED)) == [(1, 0, Place(1, SIZE)), (6, 1, None)]
    (first,) = epochs_of(events)
    assert first.evaluated == {1}
    assert [*first.places()] == [Place(1, SIZE)]
    (unfinished,) = epochs_of(events[:-1])
    assert [*unfinished.places()] == []


def test_a_record_that_begins_in_the_middle_has_no_leg_before() -> None:
    found = way(epoch(7, APPLIED), epoch(8, APPLIED))
    assert found == [(1, 7, Place(8, 8 * SIZE)), (4, 8, None)]


def test_events_of_rounds_that_the_disk_did_not_take_are_missed() -> None:
    with pytest.raises(ReplayError, match=r"^line 4: 17 events of rounds were left out"):
        way([*epoch(0, APPLIED), LeftOut("round_closed", 17)])
    assert way([*epoch(0, APPLIED), LeftOut("assigned", 17)]) == [(1, 0, None)]


def test_an_epoch_without_rounds_is_refused_if_they_decide() -> None:
    begun: Event = Started(SCHEMA, "run", "epoch", 0, 50, Level.SUMMARY, 0)
    older: Event = Started(1, "run", "epoch", 0, 50, Level.FULL)
    for event in (begun, older):
        with pytest.raises(ReplayError, match=r"^line 1: an earlier version"):
            way([event])
    assert len(legs(epochs_of([begun]), exact=True)) == 1
