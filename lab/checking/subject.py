"""What is put through the laws: a strategy; or ``sync`` or ``local-sgd`` with a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from microgpt.aggregation.base import AggregationError
from microgpt.aggregation.registry import AGGREGATIONS, load_aggregation
from microgpt.compression.base import CompressionError, Compressor
from microgpt.compression.registry import COMPRESSORS, load_compressor
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset
from microgpt.distribution import Distribution
from microgpt.model import GPTConfig
from microgpt.optim.optimizer import OptimizerError
from microgpt.optim.registry import OPTIMIZERS, load_optimizer
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.parts import make_distribution
from microgpt.strategies.registry import STRATEGIES, load_strategy, name_of, options_of
from microgpt.strategies.sync import Sync
from microgpt.support.options import FIRST, parse_spec
from microgpt.support.user_class import OwnCodeError, class_in_file

REPLICAS = 5  # as many as Krum needs for one liar
SEED = 42

#: By which methods a class of a file is known for what it is.
_METHODS = {
    "strategy": ("open", "enough", "update"),
    "compressor": ("compress", "decompress", "size"),
    "aggregation rule": ("least", "combine"),
    "optimizer": ("init", "update"),
}
_TABLES: dict[str, Mapping[str, type[Any]]] = {
    "strategy": STRATEGIES,
    "compressor": COMPRESSORS,
    "aggregation rule": AGGREGATIONS,
    "optimizer": OPTIMIZERS,
}


class SubjectError(Exception):
    """There is no such thing; the message is one sentence."""


@dataclass(frozen=True)
class Subject:
    """``kind`` is a word of ``_METHODS``; ``compressor`` is there if it is one.

    ``least``: how many documents an update must have, so that there are enough replicas.
    """

    kind: str
    name: str
    strategy: Strategy
    distribution: Distribution
    compressor: Compressor | None = None
    least: int = 1

    def training(self, steps: int, batch_size: int) -> tuple[TrainingConfig, Corpus]:
        """A training of the default model on the embedded names with it."""
        corpus = Corpus(load_dataset("embedded").documents, SEED, 0.0)
        replicas = min(self.distribution.replicas, batch_size)
        config = TrainingConfig(
            GPTConfig(corpus.tokenizer.vocab_size), steps=steps, batch_size=batch_size, seed=SEED,
            strategy=name_of(self.strategy), strategy_options=options_of(self.strategy),
            distribution=replace(self.distribution, replicas=replicas),
        )  # fmt: skip
        corpus.divide(config)
        return config, corpus


def find(spec: str) -> Subject:
    """What ``NAME`` or ``FILE.py:Class`` means, with options ``:KEY=VALUE,...``.

    Raises SubjectError.
    """
    try:
        name, options = parse_spec(spec)
        kind = _kind(name)
        if kind == "strategy":
            return Subject(kind, spec, _strategy(name, options), Distribution())
        if kind == "compressor":
            compressor = load_compressor(spec)
            distribution = make_distribution(replicas=REPLICAS, compress=spec)
            return Subject(kind, spec, Sync(), distribution, compressor)
        if kind == "aggregation rule":
            least = load_aggregation(spec).least()
            distribution = make_distribution(max(REPLICAS, least), spec)
            return Subject(kind, spec, Sync(), distribution, least=least)
        load_optimizer(spec)
        distribution = make_distribution(REPLICAS, inner_optimizer=spec)
        return Subject(kind, spec, LocalSGD(steps=2), distribution)
    except (
        AggregationError, CompressionError, OptimizerError, OwnCodeError, StrategyError, ValueError,
    ) as error:  # fmt: skip
        raise SubjectError(str(error)) from error


def _strategy(name: str, options: Mapping[str, str]) -> Strategy:
    strategy = load_strategy(name)
    first = next(iter(options_of(strategy)), FIRST)
    named = {first if key == FIRST else key: value for key, value in options.items()}
    return load_strategy(name, named)


def _kind(name: str) -> str:
    """Raises SubjectError if it is none of ours and no class that could be one."""
    for kind, table in _TABLES.items():
        if name in table:
            return kind
    if ":" not in name:
        names = ", ".join(known for table in _TABLES.values() for known in table)
        raise SubjectError(f"there is no {name!r}: give FILE.py:Class, or one of {names}")
    found = class_in_file("class", name, SubjectError)
    for kind, methods in _METHODS.items():
        if all(hasattr(found, method) for method in methods):
            return kind
    wanted = "; ".join(f"a {kind} has {', '.join(each)}" for kind, each in _METHODS.items())
    raise SubjectError(f"{name} is nothing that can be checked: {wanted}")
