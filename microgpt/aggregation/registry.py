"""Aggregation rules by name: ``"krum:f=2"``."""

from __future__ import annotations

from microgpt.aggregation.base import Aggregation, AggregationError
from microgpt.aggregation.bulyan import Bulyan
from microgpt.aggregation.centered_clip import CenteredClip
from microgpt.aggregation.krum import Krum
from microgpt.aggregation.mean import Mean
from microgpt.aggregation.median import Median
from microgpt.aggregation.multi_krum import MultiKrum
from microgpt.aggregation.trimmed_mean import TrimmedMean
from microgpt.support.options import describe, make

#: The rules of this package, by name.
AGGREGATIONS: dict[str, type[Aggregation]] = {
    "mean": Mean,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "bulyan": Bulyan,
    "centered-clip": CenteredClip,
}

_METHODS = ("least", "init", "combine")


def load_aggregation(spec: str) -> Aggregation:
    """The rule that ``NAME[:VALUE]`` or ``NAME[:KEY=VALUE,...]`` means.

    The name is one of ``AGGREGATIONS``, or ``FILE.py:Class``, whose file is run as the program that
    it is. Raises AggregationError with one sentence.
    """
    return make("aggregation rule", AGGREGATIONS, spec, AggregationError, _METHODS)


def describe_aggregation(aggregation: Aggregation) -> str:
    """The full text of a rule, from which ``load_aggregation`` makes an equal one again."""
    return describe(AGGREGATIONS, aggregation)
