"""Aggregators between workers and coordinator, in the simulator: always the same bits."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from aggregator.crew import Crew
from aggregator.state import AggregatorState
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import make_plan
from lab.simulation.play import Result, play


def run(seed: int, aggregators: int = 2, workers: int | None = None) -> Result:
    return play(make_plan(seed, workers, 0.02, aggregators), STAND_IN)


@pytest.mark.parametrize("schedules", [20, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)  # of a crowded machine
def test_fresh_schedules_of_trees_end_with_the_bits_of_the_quiet_run(schedules: int) -> None:
    first = random.SystemRandom().randrange(1 << 40)
    print(f"schedules {first} to {first + schedules - 1}")
    for seed in range(first, first + schedules):
        aggregators = 1 + seed % 3
        result = run(seed, aggregators)
        again = f"python scripts/simulate.py --seed {seed} --aggregators {aggregators} --trace"
        assert not result.problem, again


def test_all_work_goes_by_way_of_the_aggregators() -> None:
    done = [run(seed, aggregators=2, workers=4).documents for seed in range(6)]
    names = {name for documents in done for name in documents}
    assert names == {"aggregator-1", "aggregator-2"}


def test_a_schedule_without_aggregators_is_what_it_was() -> None:
    plain, same = make_plan(7, None, 0.02), make_plan(7, None, 0.02, 0)
    assert plain == same
    assert plain.aggregators == 0


def _keeps_the_old_job(patch: pytest.MonkeyPatch) -> None:
    """In a new epoch of the coordinator an aggregator waits for work of the earlier one."""

    def call(self: AggregatorState, welcome: object) -> None:
        before = [] if self._crew is None else [*self._crew.members.workers]
        crew = Crew(self._out, welcome, f"{self._now}", "", self._now)  # type: ignore[arg-type]
        self._crew = crew
        crew.call(before)

    patch.setattr(AggregatorState, "_call_a_crew", call)


def _sums_in_the_order_of_answers(patch: pytest.MonkeyPatch) -> None:
    """An aggregator adds from the right end."""

    def backwards(results: list[object]) -> object:
        total = results[-1].vector  # type: ignore[attr-defined]
        for result in results[-2::-1]:
            total = total + result.vector  # type: ignore[attr-defined]
        return total

    patch.setattr("aggregator.crew.sum_of_results", backwards)


def _forgets_parts(patch: pytest.MonkeyPatch) -> None:
    """What a worker had that is gone is nobody's."""
    plain = Crew.__init__

    def begin(self: Crew, *arguments: object) -> None:
        plain(self, *arguments)  # type: ignore[arg-type]
        self._members._release = lambda worker: []

    patch.setattr(Crew, "__init__", begin)


#: With the seeds that show it, and how many aggregators and workers there are.
MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], range, tuple[int, int | None]]] = {
    "keeps the old job": (_keeps_the_old_job, range(9, 10), (1, None)),
    "sums in another order": (_sums_in_the_order_of_answers, range(5), (2, None)),
    "forgets parts": (_forgets_parts, range(11, 12), (1, None)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_aggregator_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, seeds, size = MUTANTS[name]
    assert not any(run(seed, *size).problem for seed in seeds)
    change(monkeypatch)
    assert any(run(seed, *size).problem for seed in seeds)
