"""Which states the writer is given, and when."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.core.actions import Save
from coordinator.core.save_deferral import Decision, SaveDeferral
from tests.coordinator.core.test_coordinator_state import Play


def states(number: int) -> list[Save]:
    training = Play().state.training
    return [Save(training) for _ in range(number)]


def of(*wanted: Save) -> Callable[[Save], bool]:
    return lambda save: any(save is each for each in wanted)


def test_a_state_waits_until_there_is_nothing_else_to_do() -> None:
    deferral, (first,) = SaveDeferral(), states(1)
    assert deferral.keep(first, idle=True, wants=of()) == Decision()
    assert deferral.due(idle=True, closing=False) is first
    assert deferral.due(idle=True, closing=False) is None, "it is given once"


def test_a_newer_state_takes_the_place_of_one_that_a_busy_writer_could_not_have() -> None:
    deferral, (first, second) = SaveDeferral(), states(2)
    deferral.keep(first, idle=False, wants=of())
    assert deferral.due(idle=False, closing=False) is None
    decision = deferral.keep(second, idle=False, wants=of())
    assert decision.now is None
    assert decision.skipped is first
    assert deferral.due(idle=True, closing=False) is second


def test_a_state_that_the_rules_keep_is_written_whatever_the_writer_does() -> None:
    deferral, (first, second) = SaveDeferral(), states(2)
    deferral.keep(first, idle=False, wants=of(first))
    assert deferral.keep(second, idle=False, wants=of(first)).now is first


def test_the_last_state_of_a_run_does_not_wait() -> None:
    deferral, (last,) = SaveDeferral(), states(1)
    deferral.keep(last, idle=False, wants=of())
    assert deferral.due(idle=False, closing=True) is last
