"""``microgpt.train(..., simulate=True)``: virtual workers and time, and the same bits."""

from __future__ import annotations

from typing import Any

import pytest

import microgpt
from lab.conditions import DOWN, UP
from microgpt.strategies.base import StrategyError
from tests.processes import NAMES, TINY_MODEL
from tests.strategies_of_users import EverySecond

SETTINGS: dict[str, Any] = {**TINY_MODEL, "steps": 4, "batch_size": 6, "engine": "scalar"}
DILOCO: dict[str, Any] = {
    "strategy": "diloco", "strategy_options": {"steps": 2}, "replicas": 3, "compress": "topk:0.5",
    "validation_fraction": 0.2, "eval_every": 3,
}  # fmt: skip


def simulate(workers: int, **more: Any) -> microgpt.TrainingResult:
    return microgpt.train(NAMES, **{**SETTINGS, **more}, workers=workers, simulate=True)


@pytest.mark.parametrize("more", [{}, DILOCO, {"strategy": EverySecond()}])
def test_any_number_of_virtual_workers_has_the_bits_of_one_process(more: dict[str, Any]) -> None:
    alone = microgpt.train(NAMES, **SETTINGS, **more)
    for workers in (1, 7):
        result = simulate(workers, **more)
        assert result.checkpoint.state_sha256 == alone.checkpoint.state_sha256
        assert result.checkpoint.training == alone.checkpoint.training
        assert (result.losses, result.validations) == (alone.losses, alone.validations)
        assert repr(result) == repr(alone)


def test_a_hundred_workers() -> None:
    result = simulate(100, batch_size=24, link="latency=100ms")
    alone = microgpt.train(NAMES, **{**SETTINGS, "batch_size": 24})
    assert result.checkpoint.state_sha256 == alone.checkpoint.state_sha256
    assert [event["kind"] for event in result.events].count("joined") == 100


def test_what_timing_decides_is_the_same_each_time() -> None:
    one, other = (simulate(3, strategy="async", replicas=3, steps=9) for _ in range(2))
    assert one == other
    assert one.events == other.events
    assert (one.seconds, one.bytes_received) == (other.seconds, other.bytes_received)
    assert one != microgpt.train(NAMES, **{**SETTINGS, "steps": 9}, strategy="async", replicas=3)


def test_time_and_bytes_are_those_of_the_virtual_network() -> None:
    seen: list[int] = []
    near = simulate(2, progress=lambda step, loss: seen.append(step))
    far = simulate(2, link="latency=200ms")
    assert seen == [1, 2, 3, 4]
    assert near.seconds < 0.1
    assert 4 * 0.4 < far.seconds < 4 * 0.6 + 1.0  # there and back, each step
    assert near.losses == far.losses
    pulses = {event["worker"]: event for event in far.events if event["kind"] == "worker_pulse"}
    assert len(pulses) == 2
    for name, together in (
        ("bytes_sent", far.bytes_sent), ("bytes_received", far.bytes_received),
    ):  # fmt: skip
        assert 0.9 * together < sum(pulse[name] for pulse in pulses.values()) <= together
    few = simulate(2, replicas=2, compress="topk:0.05")
    whole = simulate(2, replicas=2, aggregate="median")
    assert few.bytes_received < 0.5 * whole.bytes_received
    assert {UP, DOWN} == {"up", "down"}
    times = [event["time"] for event in far.events]
    assert times == sorted(times)


def test_what_cannot_be_is_told() -> None:
    for more, reason in (
        ({"workers": None}, "say how many, as workers=4"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"workers": 2, "link": "latency=soon"}, "latency"),
        ({"workers": 2, "link": "worker=3:latency=1ms"}, "worker"),
    ):
        with pytest.raises(ValueError, match=reason):
            microgpt.train(NAMES, **SETTINGS, simulate=True, **more)
    with pytest.raises(StrategyError, match="did you mean sync"):
        simulate(2, strategy="sinc")
