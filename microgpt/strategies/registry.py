"""Strategies by name, or from a user's file; their options checked against their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microgpt.strategies.arrival_order import ArrivalOrder
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.backup import Backup
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.decoupled_diloco import DecoupledDiLoCo
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.easgd import EASGD
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.noise_scale import NoiseScale
from microgpt.strategies.ssp import SSP
from microgpt.strategies.sync import Sync
from microgpt.support import options as support
from microgpt.support.options import options_of as options_of

#: The strategies of this package, by the name for ``--strategy``.
STRATEGIES: dict[str, type[Strategy]] = {
    "sync": Sync,
    "noise-scale": NoiseScale,
    "arrival-order": ArrivalOrder,
    "backup": Backup,
    "async": Async,
    "ssp": SSP,
    "easgd": EASGD,
    "local-sgd": LocalSGD,
    "diloco": DiLoCo,
    "decoupled-diloco": DecoupledDiLoCo,
}
DEFAULT = "sync"

_METHODS = ("open", "enough", "update", "promise")


def load_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy ``name`` (see ``STRATEGIES``, or ``FILE.py:Class``) with these options.

    Options are texts as a command line has them, or values of their fields' types. A user's file is
    run as the program that it is. Raises StrategyError.
    """
    return support.make_with("strategy", STRATEGIES, name, options or {}, StrategyError, _METHODS)


def name_of(strategy: Strategy) -> str:
    """The name by which ``load_strategy`` finds the class again; see ``support.name_of``."""
    return support.name_of(STRATEGIES, strategy)


def parse_options(texts: tuple[str, ...]) -> dict[str, str]:
    """``("bound=4",)`` as ``{"bound": "4"}``. Raises StrategyError for anything else."""
    parsed = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise StrategyError(f"--strategy-option {text!r} is not of the form KEY=VALUE")
        parsed[key] = value
    return parsed
