"""The strategies of ``experiments/schedules.py``: rates, batches, and the bits of ``sync``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import microgpt
from microgpt.strategies.base import StrategyError
from microgpt.strategies.registry import load_strategy
from tests.processes import NAMES, ROOT, TINY_MODEL

FILE = ROOT / "experiments/schedules.py"
SAME: dict[str, Any] = {"steps": 6, "batch_size": 8, "engine": "scalar", **TINY_MODEL}


def load(name: str, **options: Any) -> Any:
    return load_strategy(f"{FILE}:{name}", options)


def test_the_rate_grows_stays_and_falls_as_told() -> None:
    steps = range(8)
    falling = [load("Schedule", hold=0.5).rate(step, 8) for step in steps]
    assert falling == [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    warm = [load("Schedule", warm=4, hold=0.5).rate(step, 8) for step in steps]
    assert warm == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    cosine = [load("Schedule", cosine=True).rate(step, 4) for step in range(4)]
    assert cosine == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)
    for wrong in ({"hold": 1.0}, {"warm": -1}):
        with pytest.raises(StrategyError):
            load("Schedule", **wrong)


def test_the_plain_schedule_has_the_bits_of_sync_and_another_one_has_not() -> None:
    sync = microgpt.train(NAMES, **SAME)
    assert microgpt.train(NAMES, strategy=load("Schedule"), **SAME).losses == sync.losses
    other = microgpt.train(NAMES, strategy=load("Schedule", warm=3), **SAME)
    assert other.losses[0] == sync.losses[0]
    assert other.losses[1] != sync.losses[1]


def test_the_batch_grows_from_a_share_to_nearly_the_whole() -> None:
    growing, counts, first = load("GrowingBatch", first=0.25), list[int](), 0
    for step in range(6):
        seen: Any = SimpleNamespace(
            open=(), state=SimpleNamespace(step=step), next_document=first,
            config=SimpleNamespace(batch_size=8, steps=6),
        )  # fmt: skip
        [opened] = growing.open(seen)
        assert (opened.version, opened.first) == (step, first)
        assert growing.following(opened) is None
        counts, first = [*counts, opened.count], first + opened.count
    assert counts == [2, 3, 3, 4, 5, 6]
    assert len(microgpt.train(NAMES, strategy=growing, **SAME).losses) == 6
    with pytest.raises(StrategyError):
        load("GrowingBatch", first=0.0)
