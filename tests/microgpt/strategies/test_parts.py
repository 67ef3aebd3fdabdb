"""What flags name: how many replicas there are, and where error feedback is used."""

from __future__ import annotations

import pytest

from microgpt.config import TrainingConfig
from microgpt.distribution import Distribution
from microgpt.model import GPTConfig
from microgpt.strategies.base import StrategyError
from microgpt.strategies.parts import check_parts, make_distribution


def config(**more: str | int) -> TrainingConfig:
    distribution = make_distribution(**more)  # type: ignore[arg-type]  # as flags have them
    return TrainingConfig(GPTConfig(27), distribution=distribution)


@pytest.mark.parametrize(
    ("aggregate", "replicas"), [("mean", 0), ("krum", 5), ("krum:f=2", 7), ("bulyan", 7)]
)
def test_there_are_as_many_replicas_as_the_rule_needs(aggregate: str, replicas: int) -> None:
    assert make_distribution(aggregate=aggregate).replicas == replicas


@pytest.mark.parametrize(("compress", "used"), [("", True), ("topk", True), ("qsgd", False)])
def test_error_feedback_is_used_where_it_helps(compress: str, used: bool) -> None:
    assert make_distribution(compress=compress).error_feedback is used
    assert make_distribution(compress=compress, error_feedback=True).error_feedback


def test_too_few_replicas_for_a_rule_are_refused() -> None:
    with pytest.raises(StrategyError, match="--aggregate krum needs at least 5 replicas, and ther"):
        check_parts(config(aggregate="krum", replicas=3))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"compress": "topq"}, "there is no compressor 'topq': did you mean topk?"),
        ({"aggregate": "crum"}, "there is no aggregation rule 'crum': did you mean krum?"),
        ({"inner_optimizer": "adamx"}, "there is no optimizer 'adamx': did you mean adam"),
        ({"outer_optimizer": "sgd:x"}, "option learning_rate wants a number"),
    ],
)
def test_a_wrong_name_is_one_sentence(flags: dict[str, str], reason: str) -> None:
    with pytest.raises(StrategyError) as caught:
        check_parts(config(**flags))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_plain_distribution_is_that_of_no_flags() -> None:
    assert make_distribution() == Distribution()
