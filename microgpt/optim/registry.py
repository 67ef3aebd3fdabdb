"""Optimizers by name: ``"nesterov:learning_rate=0.7,momentum=0.9"``."""

from __future__ import annotations

from microgpt.optim.adagrad import AdaGrad
from microgpt.optim.adam_optimizer import Adam
from microgpt.optim.adamw import AdamW
from microgpt.optim.momentum import Momentum
from microgpt.optim.nesterov import Nesterov
from microgpt.optim.optimizer import Optimizer, OptimizerError
from microgpt.optim.sgd import SGD
from microgpt.support.options import describe, make

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
