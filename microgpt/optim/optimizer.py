"""What every optimizer is: how a gradient, and what is remembered of earlier ones, moves weights.

An optimizer is a frozen dataclass whose fields are its options, floats with defaults, checked when
it is made. Its state is data, in named vectors (``Slots``), so that a checkpoint or a snapshot of a
replica can hold it without knowing which optimizer it belongs to. Except for ``adam``, which has
the bits of microgpt.py, all calculate with ``+ - * /`` and square roots of single numbers, which
IEEE 754 rounds in one way: their bits are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from microgpt.numerics.vectors import Vector

#: An optimizer's state: named vectors, (num_params,) float64 each.
Slots: TypeAlias = Mapping[str, Vector]


class Optimizer(Protocol):
    """A rule for updates. Both methods are pure: nothing given is changed in place."""

    @property
    def learning_rate(self) -> float:
        """The rate before any schedule."""
        ...

    def init(self, num_params: int) -> dict[str, Vector]:
        """The state before the first step."""
        ...

    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """New weights and state after step ``step``, which counts from 0.

        ``params``, ``gradient`` and the results: (num_params,) float64. ``rate`` is the learning
        rate in force, to which the caller has applied a schedule. What overflows becomes infinite.
        Raises ValueError for vectors of different lengths, or slots of another optimizer.
        """
        ...


class OptimizerError(Exception):
    """An optimizer that cannot be had; the message is one sentence."""


def check_vectors(params: Vector, gradient: Vector, slots: Slots, *names: str) -> None:
    """Raise ValueError unless the slots are those ``names`` and all vectors of one length."""
    if slots.keys() != set(names):
        theirs, ours = (", ".join(sorted(keys)) or "none" for keys in (slots, names))
        raise ValueError(f"the optimizer's slots are {ours}, not {theirs}")
    shapes = {"the parameters": params.shape, "the gradient": gradient.shape}
    shapes |= {f"slot {name}": slots[name].shape for name in names}
    for what, shape in shapes.items():
        if shape != params.shape or len(shape) != 1:
            raise ValueError(f"{what}: shape {shape}, with parameters of shape {params.shape}")


def whole_power(base: float, exponent: int) -> float:
    """``base ** exponent`` for an exponent of at least 0, by multiplications alone.

    The C library's power has other bits on other platforms; these are the same everywhere.
    """
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
