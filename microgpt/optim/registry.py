"""Optimizers by name: ``"nesterov:learning_rate=0.7,momentum=0.9"``."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

from microgpt.optim.adagrad import AdaGrad
from microgpt.optim.adam import AdamConfig
from microgpt.optim.adam_optimizer import Adam
from microgpt.optim.adamw import AdamW
from microgpt.optim.momentum import Momentum
from microgpt.optim.nesterov import Nesterov
from microgpt.optim.optimizer import Optimizer, OptimizerError
from microgpt.optim.sgd import SGD
from microgpt.support.options import FIRST, describe, make, parse_spec

#: The optimizers of this package, by name.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
}

_METHODS = ("learning_rate", "init", "update")


def load_optimizer(spec: str) -> Optimizer:
    """The optimizer that ``NAME[:RATE]`` or ``NAME[:KEY=VALUE,...]`` means.

    The name is one of ``OPTIMIZERS``, or ``FILE.py:Class``, whose file is run as the program that
    it is. Raises OptimizerError with one sentence.
    """
    return make("optimizer", OPTIMIZERS, spec, OptimizerError, _METHODS)


def describe_optimizer(optimizer: Optimizer) -> str:
    """The full text of an optimizer, from which ``load_optimizer`` makes an equal one again."""
    return describe(OPTIMIZERS, optimizer)


@lru_cache(maxsize=64)
def optimizer_of(spec: str, adam: AdamConfig) -> Optimizer:
    """The optimizer of this name; Adam and AdamW take what they are not told from ``adam``.

    Those are the run's flags. The others have rates of another size. Raises OptimizerError.
    """
    optimizer = load_optimizer(spec)
    if not isinstance(optimizer, Adam | AdamW):
        return optimizer
    _, given = parse_spec(spec)
    told = {"learning_rate" if key == FIRST else key for key in given}
    ours: dict[str, Any] = {k: v for k, v in adam.to_dict().items() if k not in told}
    return dataclasses.replace(optimizer, **ours)
