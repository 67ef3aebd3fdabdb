"""How much of a run is recorded: apart from the events, for whoever only asks for it."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """How much is recorded: ``rounds`` has each round, ``full`` each shard and step, too.

    A run whose strategy lets timing decide has its rounds recorded at least.
    """

    SUMMARY = "summary"
    ROUNDS = "rounds"
    FULL = "full"

    def has(self, other: Level) -> bool:
        """Whether what is recorded at the other level is recorded at this one."""
        levels = [*Level]
        return levels.index(self) >= levels.index(other)
