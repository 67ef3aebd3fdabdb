"""Engines: ways to run ``model.py`` forward and backward. All of them give the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who only wants the names needs no arrays
    from microgpt.engine.base import Engine
    from microgpt.model import GPTConfig

ENGINES = ("tape", "scalar")


def make_engine(name: str, config: GPTConfig) -> Engine:
    """The engine called ``name``. Raises ValueError for an unknown one."""
    if name == "tape":  # imported here, because a compiler takes its time
        from microgpt.engine.tape_engine import TapeEngine

        return TapeEngine(config)
    if name == "scalar":
        from microgpt.engine.scalar import ScalarEngine

        return ScalarEngine(config)
    raise ValueError(f"there is no engine {name!r}; the engines are {', '.join(ENGINES)}")
