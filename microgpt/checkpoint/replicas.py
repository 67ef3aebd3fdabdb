"""What a checkpoint holds beside the weights: vectors of strategies, and replicas with their state.

A replica is saved as it was after some task, with the tasks that it has done since: where each
began in the documents, and with which weights. Nothing here needs NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microgpt.config import MAX_BATCH, MAX_STEPS
from microgpt.distribution import MAX_REPLICAS
from microgpt.parameters import all_finite, from_bytes

MAX_NAME, MAX_PARTS, MAX_SINCE = 100, 64, 1_000
MAX_PLACE = 2**61  # of a document or a task; messages have room for twice as many
_TASK = ("version", "first", "count", "steps", "updates", "elastic")


@dataclass(frozen=True)
class SavedTask:
    """``count`` documents from place ``first`` with the weights after ``version`` updates.

    ``steps``, ``elastic`` and ``updates`` as in ``microgpt.replicas.state.Assignment``.
    """

    version: int
    first: int
    count: int
    steps: int
    elastic: float
    updates: int = 1


@dataclass(frozen=True)
class SavedReplica:
    """``vectors``: what it kept after ``clock`` tasks, as little-endian float64, by name."""

    replica: int
    clock: int
    vectors: Mapping[str, bytes]
    since: tuple[SavedTask, ...]


@dataclass(frozen=True)
class Distributed:
    """``slots``: vectors of the strategy by name. ``past_weights``: by how many updates had made
    them, those that the replicas' tasks need.
    """

    slots: Mapping[str, bytes] = field(default_factory=dict)
    replicas: tuple[SavedReplica, ...] = ()
    past_weights: Mapping[int, bytes] = field(default_factory=dict)


def to_plain(saved: Distributed) -> dict[str, Any]:
    """As it stands in the body of a checkpoint."""
    return {
        "slots": dict(saved.slots),
        "replicas": [
            {
                "replica": one.replica,
                "clock": one.clock,
                "vectors": dict(one.vectors),
                "since": [{name: getattr(task, name) for name in _TASK} for task in one.since],
            }
            for one in saved.replicas
        ],
        "past_weights": [[version, part] for version, part in sorted(saved.past_weights.items())],
    }


def from_plain(plain: Any, num_params: int) -> Distributed:
    """The inverse of ``to_plain``, for whatever a file holds. Raises ValueError."""
    _require(isinstance(plain, dict) and plain.keys() == to_plain(Distributed()).keys())
    _require(isinstance(plain["replicas"], list) and len(plain["replicas"]) <= MAX_REPLICAS)
    _require(isinstance(plain["past_weights"], list))
    weights = {}
    for pair in plain["past_weights"]:
        _require(isinstance(pair, list) and len(pair) == 2)
        _require(_is_count(pair[0], MAX_STEPS) and pair[0] not in weights)
        weights[pair[0]] = _finite(pair[1], num_params)
    replicas = tuple(_replica(one, weights) for one in plain["replicas"])
    numbers = [one.replica for one in replicas]
    _require(numbers == sorted(set(numbers)))
    return Distributed(_vectors(plain["slots"]), replicas, weights)


def _replica(plain: Any, weights: Mapping[int, bytes]) -> SavedReplica:
    _require(isinstance(plain, dict) and plain.keys() == {"replica", "clock", "vectors", "since"})
    _require(_is_count(plain["replica"], MAX_REPLICAS - 1) and _is_count(plain["clock"], MAX_PLACE))
    _require(isinstance(plain["since"], list) and len(plain["since"]) <= MAX_SINCE)
    since = tuple(_task(task, weights) for task in plain["since"])
    return SavedReplica(plain["replica"], plain["clock"], _vectors(plain["vectors"]), since)


def _task(plain: Any, weights: Mapping[int, bytes]) -> SavedTask:
    _require(isinstance(plain, dict) and plain.keys() == set(_TASK))
    _require(all(_is_count(plain[name], MAX_PLACE) for name in _TASK[:-1]))
    _require(isinstance(plain["elastic"], float) and 0.0 <= plain["elastic"] <= 1.0)
    _require(plain["version"] in weights and plain["steps"] <= plain["count"])
    _require(0 < plain["updates"] <= MAX_STEPS)
    _require(0 < plain["count"] <= MAX_BATCH)  # they are looked up before anything is computed
    return SavedTask(**plain)


def _vectors(plain: Any) -> dict[str, bytes]:
    _require(isinstance(plain, dict) and len(plain) <= MAX_PARTS)
    for name, part in plain.items():
        _require(isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable())
        _finite(part)
    return dict(plain)


def _finite(part: Any, length: int | None = None) -> bytes:
    _require(isinstance(part, bytes) and len(part) % 8 == 0)
    _require(length is None or len(part) == 8 * length)
    if not all_finite(from_bytes(part)):
        raise ValueError("a number that a strategy or a replica keeps is not finite")
    kept: bytes = part
    return kept


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("what strategies or replicas keep is not as it should be")
