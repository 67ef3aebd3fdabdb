"""What is put off happens in the order of time, whichever slot it falls into."""

from __future__ import annotations

from random import Random

import pytest

from lab.simulation.clock import PER_SECOND, Clock, InvariantViolationError


def test_calls_come_in_the_order_of_time_and_then_of_being_put_off() -> None:
    rng, clock = Random(5), Clock(keep_trace=False)
    happened = list[tuple[float, int]]()
    delays = (0.0, 0.1 / PER_SECOND, 0.9 / PER_SECOND, 1.0 / PER_SECOND, 0.003, 0.25, 7.0)
    expected = list[tuple[float, int]]()

    def put_off(number: int) -> None:
        delay = rng.choice(delays)
        expected.append((clock.now + delay, number))
        clock.after(delay, happen, number)

    def happen(number: int) -> None:
        happened.append((clock.now, number))
        for _ in range(2):
            if len(expected) < 3000:
                put_off(len(expected))

    put_off(0)
    with pytest.raises(InvariantViolationError, match="nothing will ever happen again"):
        clock.run()
    assert happened == sorted(expected)
    assert len(happened) == clock.events == 3000
    assert clock.pending == 0


def test_nothing_happens_after_the_end() -> None:
    clock, happened = Clock(keep_trace=False), list[str]()
    clock.after(2.0, happened.append, "late")
    clock.after(1.0, clock.stop)
    clock.after(1.0, happened.append, "as late as the end")
    clock.after(0.5, happened.append, "early")
    clock.run()
    assert (happened, clock.now) == (["early"], 1.0)
    assert (clock.events, clock.pending) == (2, 2)
