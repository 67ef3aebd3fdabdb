"""Records become rows: complete, in the order of the steps, each told once."""

from __future__ import annotations

from typing import Any

from coordinator.core.events import StrategyNumbers, TensorNorms, Unverified
from lab.export.rows import Row, Rows


def step(number: int, **more: Any) -> dict[str, Any]:
    return {"step": number, "loss": 3.0 - number, **more}


def plain(number: int, **more: float) -> Row:
    zeros = {"seconds": 0.0, "documents": 0.0, "bytes_sent": 0.0, "bytes_received": 0.0}
    return Row(number, None, {"loss": 3.0 - number, **zeros, **more})


def test_a_step_becomes_named_numbers() -> None:
    rows = Rows()
    rows.add_step(
        {
            "step": 1, "loss": 2.5, "lr": 0.01, "documents": 32, "seconds": 0.5, "bytes_sent": 7,
            "bytes_received": 9, "validation_loss": 2.75, "tokens": 215, "workers": 1,
        },
        1.5,
    )  # fmt: skip
    values = {
        "loss": 2.5, "validation_loss": 2.75, "learning_rate": 0.01, "seconds": 0.5,
        "documents_per_second": 64.0, "documents": 32.0, "bytes_sent": 7.0, "bytes_received": 9.0,
    }  # fmt: skip
    assert list(rows.rest()) == [Row(1, 1.5, values)]
    assert list(rows.rest()) == []


def test_rows_wait_until_they_are_asked_for_again() -> None:
    """Events lie in another file, which may be written a little later."""
    rows = Rows()
    rows.add_step(step(1), None)
    assert list(rows.settled()) == []
    rows.add_step(step(2), None)
    rows.add_event(9.0, TensorNorms(1, ("wte", "wpe"), (), (0.5, 0.25)))
    expected = plain(1, **{"update_norm/wte": 0.5, "update_norm/wpe": 0.25})
    assert list(rows.settled()) == [expected._replace(time=9.0)]
    assert list(rows.settled()) == [plain(2)]
    assert list(rows.settled()) == []


def test_what_comes_too_late_goes_with_the_last_step_that_was_told() -> None:
    rows = Rows()
    for number in (1, 2):
        rows.add_step(step(number), None)
    assert [row.step for row in rows.rest()] == [1, 2]
    numbers = StrategyNumbers(1, {"staleness": 1.5}, {"staleness": {"0": 3, "1": 2}})
    rows.add_event(4.0, numbers)
    rows.add_event(5.0, Unverified())
    late = {"strategy/staleness": 1.5, "strategy/staleness/0": 3.0, "strategy/staleness/1": 2.0}
    assert list(rows.rest()) == [Row(2, 4.0, late)]


def test_steps_that_are_done_again_are_told_once() -> None:
    """A run that goes on from a checkpoint has dropped the steps behind it, and does them again."""
    rows = Rows()
    for number in (1, 2, 3, 2, 3, 4):
        rows.add_step(step(number), None)
        list(rows.settled())
    assert [row.step for row in rows.rest()] == [4]


def test_both_kinds_of_norms_have_the_names_of_their_tensors() -> None:
    rows = Rows()
    rows.add_event(1.0, TensorNorms(3, ("wte",), (0.5,), (0.25,)))
    assert list(rows.rest()) == [Row(3, 1.0, {"gradient_norm/wte": 0.5, "update_norm/wte": 0.25})]
