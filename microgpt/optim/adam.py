"""Adam (Kingma and Ba, 2015) as a pure pair ``(init, update)``; the state is data.

Element by element in the order of operations of microgpt.py, with a learning rate that falls
linearly to zero. ``update`` here is the readable definition; ``adam_compiled`` has the same
interface and the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from microgpt.optim.checks import check_numbers


@dataclass(frozen=True)
class AdamConfig:
    """Hyperparameters. Raises ValueError outside their ranges."""

    learning_rate: float = 0.01
    beta1: float = 0.85
    beta2: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_numbers(self, below_one=("beta1", "beta2"), positive=("eps",))

    def to_dict(self) -> dict[str, float]:
        """The fields as a plain map, for records and messages."""
        return asdict(self)


class AdamState(NamedTuple):
    """Running means of the gradient and of its square, one number per parameter."""

    m: Sequence[float]
    v: Sequence[float]


def init(num_params: int) -> AdamState:
    """The state before the first step: zeros."""
    return AdamState([0.0] * num_params, [0.0] * num_params)


def learning_rate(config: AdamConfig, step: int, num_steps: int) -> float:
    """Rate of step ``step`` (from 0): linear from ``config.learning_rate`` to zero."""
    return config.learning_rate * (1 - step / num_steps)


def bias_corrections(config: AdamConfig, step: int) -> tuple[float, float]:
    """What the running means are divided by in step ``step`` (from 0)."""
    return 1 - config.beta1 ** (step + 1), 1 - config.beta2 ** (step + 1)


def update(
    config: AdamConfig,
    params: Sequence[float],
    gradient: Sequence[float],
    state: AdamState,
    step: int,
    num_steps: int,
) -> tuple[list[float], AdamState]:
    """New parameters and state after step ``step`` (from 0) of ``num_steps``; nothing is changed.

    All sequences have one binary64 number per parameter.
    """
    rate = learning_rate(config, step, num_steps)
    return update_at(config, params, gradient, state, step, rate)


def update_at(
    config: AdamConfig,
    params: Sequence[float],
    gradient: Sequence[float],
    state: AdamState,
    step: int,
    rate: float,
) -> tuple[list[float], AdamState]:
    """``update`` at any learning rate ``rate``; the configuration's is not looked at."""
    correction1, correction2 = bias_corrections(config, step)
    new_params, new_m, new_v = [], [], []
    for p, g, m, v in zip(params, gradient, state.m, state.v, strict=True):
        m = config.beta1 * m + (1 - config.beta1) * g
        v = config.beta2 * v + (1 - config.beta2) * g**2
        m_hat, v_hat = m / correction1, v / correction2
        new_params.append(p - rate * m_hat / (v_hat**0.5 + config.eps))
        new_m.append(m)
        new_v.append(v)
    return new_params, AdamState(new_m, new_v)
