"""What a field of a message must look like: types, ranges and sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

MAX_TEXT = 2_000  # characters of a name or a reason
MAX_DOCUMENTS = 1 << 20  # in one shard
MAX_COUNT = 1 << 62
MAX_DIMENSION = 1 << 25  # of a model: one row of so many numbers fills a message
#: Seconds that a peer may tell of, but for 0: a division by them, or a product, overflows nowhere.
LEAST_SECONDS, MOST_SECONDS = 1e-12, 1e7
MAX_RECIPE = 32  # entries of what replicas do
MAX_PART = 1 << 18  # bytes of a checkpoint in one message
MAX_LISTED = 5_000  # checkpoints in one message
NOT_LOOKED_INTO = "not looked into yet"  # the problem of a file for which there was no time


class Stored(NamedTuple):
    """A checkpoint file: its step, its size in bytes, and what it says of losses.

    ``loss`` is that of its last batch; ``validation_loss`` that of the held-out documents after
    ``validation_step`` updates. ``problem`` is what is wrong with the file, empty if nothing is.
    """

    step: int
    size: int
    loss: float | None
    validation_step: int | None
    validation_loss: float | None
    problem: str


Check: TypeAlias = Callable[[Any], bool]


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_seconds(value: Any) -> bool:
    return isinstance(value, float) and (value == 0.0 or LEAST_SECONDS <= value <= MOST_SECONDS)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) % 8 == 0


def _is_vector_map(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    for name, part in value.items():  # spelled out: it is most of what a message is checked for
        if not isinstance(name, str) or len(name) > MAX_TEXT:
            return False
        if not isinstance(part, bytes) or len(part) % 8:
            return False
    return True


def _is_model(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and type(number) is int and 1 <= number <= MAX_DIMENSION
        for name, number in value.items()
    )


def _is_recipe(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_RECIPE
        and all(_is_text(name) and _is_setting(setting) for name, setting in value.items())
    )


def _is_setting(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return type(value) is bool or _is_count(value) or _is_text(value)


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0.0 <= value <= 1.0


def _is_payload(value: Any) -> bool:
    return isinstance(value, bytes)


def _is_checkpoint_part(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) <= MAX_PART


def _is_optional_count(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_optional_loss(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isfinite(value))


def is_stored(value: Any) -> bool:
    """Whether a tuple has what belongs into ``Stored``."""
    return (
        isinstance(value, tuple)
        and len(value) == len(_STORED)
        and all(check(part) for check, part in zip(_STORED, value, strict=True))
    )


def _is_entries(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(is_stored, value))


#: Of the fields of ``Stored``.
_STORED: tuple[Check, ...] = (
    _is_count, _is_count, _is_optional_loss, _is_optional_count, _is_optional_loss, _is_text
)  # fmt: skip


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_int32_array(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) % 4 == 0


#: What a field of this name must look like, in whatever message it stands.
CHECKS: dict[str, Check] = {
    "run": _is_text,
    "epoch": _is_text,
    "name": _is_text,
    "engine": _is_text,
    "reason": _is_text,
    "text": _is_text,
    "libm": _is_text,
    "round": _is_count,
    "step": _is_count,
    "start": _is_count,
    "count": _is_count,
    "document": _is_count,
    "worker": _is_count,
    "attempt": _is_count,
    "number": _is_count,
    "wanted": _is_optional_count,
    "known": _is_optional_count,
    "offset": _is_count,
    "total": _is_count,
    "omitted": _is_count,
    "again": _is_flag,
    "ready": _is_flag,
    "training": _is_flag,
    "seconds": _is_seconds,
    "losses": _is_numbers,
    "gradient": _is_vector_map,
    "weights": _is_vector_map,
    "model": _is_model,
    "tokens": _is_int32_array,
    "lengths": _is_int32_array,
    "recipe": _is_recipe,
    "replica": _is_count,
    "clock": _is_count,
    "steps": _is_count,
    "elastic": _is_share,
    "updates": _is_positive,
    "snapshot": _is_flag,
    "redo": _is_flag,
    "payload": _is_payload,
    "state": _is_vector_map,
    "vectors": _is_vector_map,
    "data": _is_checkpoint_part,
    "entries": _is_entries,
}
