"""How much of a run is recorded: apart from the events, for whoever only asks for it."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """How much is recorded: ``full`` has an event for each shard, round and step, too."""

    SUMMARY = "summary"
    FULL = "full"
