"""What all replicas of a run have in common: how it follows from the settings, and travels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from microgpt.compression.base import CompressionError
from microgpt.compression.registry import load_compressor
from microgpt.config import TrainingConfig
from microgpt.distribution import Distribution
from microgpt.optim.adam import AdamConfig
from microgpt.optim.optimizer import OptimizerError
from microgpt.optim.registry import optimizer_of
from microgpt.replicas.work import Recipe

#: The optimizer of local steps where none is named: that of DiLoCo (arXiv 2311.08105).
INNER = "adamw"
_ADAM = ("learning_rate", "beta1", "beta2", "eps")


@lru_cache(maxsize=16)
def recipe_of(config: TrainingConfig) -> Recipe:
    """What the run's replicas have in common.

    Raises CompressionError or OptimizerError for names or options that do not exist.
    """
    return make_recipe(config.distribution, config.adam, config.seed)


def make_recipe(distribution: Distribution, adam: AdamConfig, seed: int) -> Recipe:
    """The same from its parts, and with the same errors."""
    inner = optimizer_of(distribution.inner_optimizer or INNER, adam)
    compress = distribution.compress
    compressor = load_compressor(compress) if compress else None
    return Recipe(inner, compressor, distribution.error_feedback, seed)


def to_plain(config: TrainingConfig) -> dict[str, Any]:
    """What a worker must know."""
    distribution = config.distribution
    return {
        "inner_optimizer": distribution.inner_optimizer,
        "compress": distribution.compress,
        "error_feedback": distribution.error_feedback,
        "seed": config.seed,
        **config.adam.to_dict(),
    }


def from_plain(plain: Mapping[str, Any], trusted: Collection[str] = ()) -> Recipe:
    """The inverse of ``to_plain``.

    A file is a program: of one that the run names, the worker runs its own copy, which whoever
    started it has named in ``trusted``. Raises ValueError for anything that is missing, unknown
    or wrong.
    """
    try:
        rest = dict(plain)
        adam = AdamConfig(**{name: rest.pop(name) for name in _ADAM})
        seed = rest.pop("seed")
        for name in ("compress", "inner_optimizer"):
            rest[name] = _own_copy(rest[name], trusted)
        distribution = Distribution(**rest)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a recipe for replicas: {error}") from error
    if type(seed) is not int:
        raise ValueError("not a recipe for replicas: the seed is a whole number")
    try:
        return make_recipe(distribution, adam, seed)
    except (CompressionError, OptimizerError) as error:
        raise ValueError(str(error)) from error


def _own_copy(spec: Any, trusted: Collection[str]) -> Any:
    """A name with its options; of ``FILE.py:Class``, with the trusted file of that name.

    Raises ValueError if none is trusted.
    """
    if not isinstance(spec, str) or ".py:" not in spec:
        return spec
    name, options = _split(spec)
    for ours in trusted:
        if ".py:" in ours and PurePath(_split(ours)[0]).name == PurePath(name).name:
            return f"{_split(ours)[0]}{options}"
    raise ValueError(f"the run uses {name}: to run that file, start the worker with --trust {name}")


def _split(spec: str) -> tuple[str, str]:
    """``FILE.py:Class:OPTIONS`` as ``FILE.py:Class`` and ``:OPTIONS``."""
    file, _, rest = spec.partition(".py:")
    kind, colon, options = rest.partition(":")
    return f"{file}.py:{kind}", colon + options
