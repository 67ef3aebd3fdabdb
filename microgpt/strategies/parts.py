"""What a run's settings name besides its strategy: optimizers, aggregation rule and compressor."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from microgpt.aggregation.base import Aggregation, AggregationError
from microgpt.aggregation.registry import load_aggregation
from microgpt.compression.base import CompressionError, Compressor
from microgpt.compression.registry import load_compressor
from microgpt.config import TrainingConfig
from microgpt.distribution import DEFAULT_REPLICAS, Distribution
from microgpt.optim.optimizer import OptimizerError
from microgpt.optim.registry import optimizer_of
from microgpt.replicas.recipe import recipe_of
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.support.user_class import OwnCodeError, absolute, blamed


def check_parts(config: TrainingConfig) -> None:
    """Raise StrategyError for a name or an option that does not exist, in one sentence."""
    distribution = config.distribution
    try:
        recipe_of(config)
        rule = aggregation_of(distribution)
        if distribution.outer_optimizer:
            optimizer_of(distribution.outer_optimizer, config.adam)
    except (AggregationError, CompressionError, OptimizerError, ValueError) as error:
        raise StrategyError(str(error)) from error
    replicas, least = distribution.replicas or DEFAULT_REPLICAS, _least(rule)
    if distribution.aggregate != "mean" and replicas < least:
        raise StrategyError(
            f"--aggregate {distribution.aggregate} needs at least {least} replicas, "
            f"and there are {replicas}: see --replicas"
        )


def make_distribution(
    replicas: int = 0,
    aggregate: str = "mean",
    compress: str = "",
    error_feedback: bool | None = None,
    inner_optimizer: str = "",
    outer_optimizer: str = "",
    shard_by: str = "",
) -> Distribution:
    """As flags say; ``error_feedback`` None: where it helps the compressor. Files are found again
    in whichever folder the run is gone on with.

    ``replicas`` 0 are as many as the aggregation rule needs, if one is named. Raises ValueError,
    and StrategyError for a compressor or a rule that does not exist.
    """
    try:
        if error_feedback is None:
            error_feedback = not compress or _helps(load_compressor(compress))
        if not replicas and aggregate != "mean":
            replicas = max(DEFAULT_REPLICAS, _least(load_aggregation(aggregate)))
    except (AggregationError, CompressionError) as error:
        raise StrategyError(str(error)) from error
    names = map(absolute, (aggregate, compress, inner_optimizer, outer_optimizer))
    aggregate, compress, inner_optimizer, outer_optimizer = names
    return Distribution(
        replicas, aggregate, compress, error_feedback, inner_optimizer, outer_optimizer, shard_by
    )


def _helps(compressor: Compressor) -> bool:
    """Whether error feedback does. Raises StrategyError."""
    try:
        with blamed("compressor", compressor, "feedback"):
            return bool(compressor.feedback)
    except OwnCodeError as error:
        raise StrategyError(str(error)) from error


def _least(rule: Aggregation) -> int:
    """How many vectors a rule needs. Raises StrategyError."""
    try:
        with blamed("aggregation rule", rule, "least"):
            return int(rule.least())
    except OwnCodeError as error:
        raise StrategyError(str(error)) from error


def settled(distribution: Distribution, strategy: Strategy) -> Distribution:
    """With the inner optimizer that is the strategy's own, where none is named."""
    inner = distribution.inner_optimizer or str(getattr(strategy, "inner", ""))
    return replace(distribution, inner_optimizer=inner)


@lru_cache(maxsize=64)
def aggregation_of(distribution: Distribution) -> Aggregation:
    """How one vector is made of the replicas'."""
    return load_aggregation(distribution.aggregate)
