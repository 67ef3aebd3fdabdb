"""How long runs will take: rules of thumb, and what those that are over tell."""

from __future__ import annotations

from lab.conditions import Conditions, Link, Machine, WorkerConditions
from lab.experiments.estimate import calibrated, guess, total
from lab.experiments.expansion import Case, Trial
from lab.experiments.settings import DEFAULTS
from lab.experiments.simulation import Simulation


def trial(simulated: bool, **settings: object) -> Trial:
    case = Case({"way": "a"}, {**DEFAULTS, **settings}, {}, ())
    return Trial(case, 1, Simulation(20.0, 7.0) if simulated else None, {})


def test_simulated_runs_go_side_by_side_and_real_ones_after_them_alone() -> None:
    virtual = [(trial(True), 10.0)] * 4
    real = [(trial(False), 5.0)] * 2
    assert total([*virtual, *real], 2, alone=True) == 20.0 + 10.0
    assert total([*virtual, *real], 2, alone=False) == 20.0 + 5.0
    assert total([(trial(True), 30.0), (trial(True), 1.0)], 8, alone=True) == 30.0
    assert total([], 2, alone=True) == 0.0


def test_runs_that_are_over_correct_the_rule_of_thumb() -> None:
    assert calibrated([1.0, 3.0], [4.0, 4.0]) == 2.0
    assert calibrated([], []) == 1.0


def test_more_steps_larger_models_and_worse_conditions_take_longer() -> None:
    usual = guess(trial(False, steps=1000), 1, Conditions())
    assert guess(trial(False, steps=2000), 1, Conditions()) > usual + 1.0
    assert guess(trial(False, steps=1000), 8, Conditions()) > 1.5 * usual
    assert guess(trial(False, steps=1000, n_embd=64), 1, Conditions()) > usual
    away = Conditions(of_all=WorkerConditions(link=Link(delay=0.02)))
    assert guess(trial(False, steps=1000), 1, away) >= usual + 40.0
    slow = Conditions(of_some={2: WorkerConditions(machine=Machine(9.0))})
    assert guess(trial(False, steps=1000, batch_size=512), 1, slow) > 2 * guess(
        trial(False, steps=1000, batch_size=512), 1, Conditions()
    )
    # Virtual time costs no waiting.
    assert guess(trial(True, steps=1000), 1, away) == guess(trial(True, steps=1000), 1, slow)
