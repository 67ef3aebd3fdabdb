"""Conditions: how their texts are read, and what a link does to bytes."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.condition_texts import ConditionError, read_conditions, with_policy
from lab.conditions import Conditions, Failures, Link, Machine, OnFailure, WorkerConditions


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("latency=20ms", Link(delay=0.02)),
        ("latency=20ms,jitter=5ms", Link(delay=0.02, jitter=0.005)),
        ("bandwidth=10Mbit", Link(rate=1_250_000.0)),
        ("bandwidth=56kbit", Link(rate=7000.0)),
        ("bandwidth=1gbit", Link(rate=125_000_000.0)),
        ("loss=0.1%", Link(loss=0.001)),
        ("loss=0.25", Link(loss=0.25)),
        ("latency=500us", Link(delay=0.0005)),
        ("jitter=1s,latency=1.5s,bandwidth=8kbit", Link(frozenset(), 1.5, 1000.0, 1.0)),
    ],
)  # fmt: skip
def test_links(text: str, link: Link) -> None:
    conditions = read_conditions(2, link=[text])
    assert conditions == Conditions((f"--link {text}",), WorkerConditions(link))
    assert (conditions.have_links, conditions.have_lies) == (True, False)


def test_what_is_said_of_one_worker_takes_the_place_of_what_is_said_of_all() -> None:
    conditions = read_conditions(
        4,
        link=["worker=2:bandwidth=8kbit", "latency=20ms"],
        slow=["worker=2:3x", "worker=4:1.5"],
        fail=["mtbf=30s,mttr=500ms"],
        byzantine=["worker=3:sign-flip"],
    )
    failures = Failures(30.0, 0.5)
    usual = WorkerConditions(Link(delay=0.02), failures=failures)
    assert conditions.of(1) == usual
    assert conditions.of(2) == WorkerConditions(Link(rate=1000.0), Machine(3.0), failures)
    assert conditions.of(3) == WorkerConditions(Link(delay=0.02), Machine(), failures, "sign-flip")
    assert conditions.of(4) == WorkerConditions(Link(delay=0.02), Machine(1.5), failures)
    assert conditions.texts == (
        "--link worker=2:bandwidth=8kbit", "--link latency=20ms", "--slow worker=2:3x",
        "--slow worker=4:1.5", "--fail mtbf=30s,mttr=500ms", "--byzantine worker=3:sign-flip",
    )  # fmt: skip
    assert conditions.have_lies
    assert read_conditions(1) == Conditions()


def test_what_is_done_about_failures_is_one_of_three() -> None:
    conditions = read_conditions(2, fail=["mtbf=30s,mttr=1s"])
    assert with_policy(conditions, "replace") == conditions
    restarting = with_policy(conditions, "restart")
    assert restarting.on_failure is OnFailure.RESTART
    assert restarting.texts == ("--fail mtbf=30s,mttr=1s", "--on-failure restart")
    assert restarting.of(1) == conditions.of(1)
    with pytest.raises(ConditionError, match=r"'never': there are replace, restart, elastic$"):
        with_policy(conditions, "never")


@pytest.mark.parametrize(
    ("flag", "text", "says"),
    [
        ("link", "", "'' is none of latency=, jitter=, bandwidth=, loss="),
        ("link", "latency", "'latency' is none of latency=, jitter=, bandwidth=, loss="),
        ("link", "latency=20ms,", "'' is none of"),
        ("link", "ping=3ms", "'ping=3ms' is none of"),
        ("link", "latency=20", "'20' is no time: write 200us, 20ms, 1.5s or 2m"),
        ("link", "latency=-20ms", "'-20ms' is no number with a unit"),
        ("link", "latency=nan", "'nan' is no number with a unit"),
        ("link", "latency=1e9s", "'1e9s' is no number with a unit"),
        ("link", "latency=11s", "11s is too long: at most 10s"),
        ("link", "latency=20ms,latency=10ms", "latency is given twice"),
        ("link", "latency=2ms,jitter=5ms", "jitter is more than latency"),
        ("link", "bandwidth=10MB", "'10MB' is no bandwidth: write 56kbit, 10Mbit or 1Gbit"),
        ("link", "bandwidth=0Mbit", "'0Mbit' is no bandwidth"),
        ("link", "loss=51%", "'51%' is no loss: write 0.1% or 0.001, at most 50%"),
        ("link", "loss=1", "'1' is no loss"),
        ("link", "worker=2", "after worker='2' there must be a colon and a condition"),
        ("link", "worker=3:latency=1ms", "there is no worker '3': they are numbered 1 to 2"),
        ("link", "worker=0:latency=1ms", "there is no worker '0': they are numbered 1 to 2"),
        ("link", "worker=\N{SUPERSCRIPT TWO}:latency=1ms", "there is no worker"),
        ("link", f"worker={'9' * 5000}:latency=1ms", "there is no worker '999"),
        ("slow", "0.5x", "write how many times as long it takes: 1x to 1000x"),
        ("slow", "3s", "write how many times as long it takes"),
        ("slow", "fast", "'fast' is no number with a unit"),
        ("fail", "mtbf=30s", "mttr is missing: write mtbf=30s,mttr=5s"),
        ("fail", "mtbf=1ms,mttr=1s", "mtbf is too short for any work: at least 100ms"),
        ("fail", "mtbf=9999999s,mttr=1s", "9999999s is too long: at most 604800s"),
        (
            "byzantine",
            "worker=2:shout",
            "there is no lie 'shout': there are sign-flip, noise, alie",
        ),
    ],
)
def test_what_is_no_condition_is_one_line_that_says_why(flag: str, text: str, says: str) -> None:
    with pytest.raises(ConditionError, match=re.escape(says)) as caught:
        read_conditions(2, **{flag: [text]})
    assert str(caught.value).startswith(f"--{flag} '")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_two_conditions_of_one_kind_for_one_worker_are_refused() -> None:
    for texts in (["worker=1:2x", "worker=1:3x"], ["2x", "3x"]):
        with pytest.raises(ConditionError, match="has another one already"):
            read_conditions(2, slow=texts)
    assert read_conditions(2, slow=["2x", "worker=1:3x"]).of(1).machine.slowness == 3.0


@given(text=st.text(max_size=40), flag=st.sampled_from(("link", "slow", "fail", "byzantine")))
def test_any_text_is_read_or_refused(text: str, flag: str) -> None:
    try:
        read = read_conditions(3, **{flag: [text]}).texts
    except ConditionError as error:
        said = str(error)
    else:
        assert read == (f"--{flag} {text}",)
        said = ""
    assert not said or said.isprintable()


def test_how_long_bytes_are_under_way() -> None:
    rng = Random(1)
    before = rng.getstate()
    assert Link(delay=0.02).seconds_for(5000, rng) == 0.02
    assert rng.getstate() == before, "nothing is drawn where nothing is left to chance"
    times = [Link(delay=0.02, jitter=0.005).seconds_for(100, rng) for _ in range(500)]
    assert 0.015 <= min(times) < 0.0155
    assert 0.0245 < max(times) <= 0.025


def test_what_is_lost_comes_later_and_all_of_it_comes() -> None:
    rng, link = Random(1), Link(delay=0.05, loss=0.1)
    assert link.retransmission_timeout == 0.2
    assert Link(delay=0.3).retransmission_timeout == 0.6
    times = [link.seconds_for(1000, rng) for _ in range(2000)]
    assert {round((t - 0.05) / 0.2) for t in times} >= {0, 1, 3}  # once, twice, three times sent
    assert 150 < sum(t > 0.2 for t in times) < 250  # a tenth
    long = [link.seconds_for(10 * 1448, rng) for _ in range(2000)]
    assert 1200 < sum(t > 0.2 for t in long) < 1400  # 1 - 0.9 ** 10 of ten segments
