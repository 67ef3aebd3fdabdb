"""The wire protocol between coordinator and workers: what is said, and how it is checked.

One message is one msgpack map: ``{"kind", "protocol", "run", "life", ...fields of the kind}``.
``run`` names the training run and ``life`` this start of its coordinator, so that words from an
earlier life are recognised and dropped. Vectors travel as ``{parameter name: bytes}``, the bytes
being little-endian float64.

A peer's bytes are hostile until ``decode`` has checked them: sizes, names, types and ranges here,
and the shapes of vectors where the model is known. Nothing here knows sockets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import msgpack

PROTOCOL = 2
#: Largest message that is read at all; the transport enforces it too.
MAX_MESSAGE_BYTES = 256 << 20
MAX_TEXT = 2_000  # characters of a name or a reason
MAX_MATRICES = 100_000  # entries of a map of parameters
MAX_DOCUMENTS = 1 << 20  # in one shard
MAX_COUNT = 1 << 62


class ProtocolError(Exception):
    """A peer's message breaks the protocol; the message says how."""


class VersionMismatchError(ProtocolError):
    """A peer speaks another version of the protocol."""


@dataclass(frozen=True)
class Message:
    """What every message carries: the run and the coordinator's life it belongs to.

    Both are empty before a worker has been welcomed.
    """

    run: str
    life: str


# --- from a worker -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Message):
    """A worker offers to work. ``engine`` is the name of the engine it computes with."""

    name: str
    engine: str


@dataclass(frozen=True)
class Heartbeat(Message):
    """A worker is alive, whatever it is computing.

    ``ready``: its engine has been made for this model. No work is given to it before.
    """

    ready: bool


@dataclass(frozen=True)
class Status(Message):
    """Something people should know about a worker, such as that it is compiling."""

    text: str


@dataclass(frozen=True)
class Answer(Message):
    """Losses and summed gradient of one shard of a step (counted from 0).

    ``losses``: little-endian float64, one per document. ``seconds``: time the engine took.
    ``gradient`` is empty where ``training`` is False, as in the task.
    """

    step: int
    start: int
    count: int
    seconds: float
    losses: bytes
    gradient: Mapping[str, bytes]
    training: bool = True


@dataclass(frozen=True)
class Failure(Message):
    """A shard has no finite gradient or loss; ``document`` is its position in the batch."""

    step: int
    document: int
    reason: str
    training: bool = True


@dataclass(frozen=True)
class Goodbye(Message):
    """A worker leaves; what it owes must be given to others."""


# --- from the coordinator ------------------------------------------------------------------------


@dataclass(frozen=True)
class Welcome(Message):
    """A worker is taken in as number ``worker``; ``model`` has the fields of GPTConfig.

    ``seconds`` is the longest time between two messages of a worker that lives.
    """

    worker: int
    seconds: float
    model: Mapping[str, int]


@dataclass(frozen=True)
class Introduce(Message):
    """A message came from somebody the coordinator does not know: say Hello again."""


@dataclass(frozen=True)
class Weights(Message):
    """The weights that shards of ``step`` are to be computed with."""

    step: int
    weights: Mapping[str, bytes]


@dataclass(frozen=True)
class Task(Message):
    """One shard of a step: ``count`` documents (token ids) from position ``start`` of the batch.

    ``training`` False: the losses of held-out documents are wanted, after ``step`` updates, and no
    gradient.
    """

    step: int
    start: int
    count: int
    documents: tuple[tuple[int, ...], ...]
    training: bool = True


@dataclass(frozen=True)
class Refuse(Message):
    """The worker cannot take part, and trying again will not help."""

    reason: str


@dataclass(frozen=True)
class Stop(Message):
    """There is no more work; the worker ends."""

    reason: str


KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (
        Hello, Heartbeat, Status, Answer, Failure, Goodbye,
        Welcome, Introduce, Weights, Task, Refuse, Stop,
    )
}  # fmt: skip

Check: TypeAlias = Callable[[Any], bool]


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_seconds(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value >= 0.0


def _is_numbers(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) % 8 == 0


def _is_vector_map(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and _is_numbers(part) for name, part in value.items()
    )


def _is_model(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and _is_count(number) for name, number in value.items()
    )


def _is_documents(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(document, tuple) and all(map(_is_count, document)) for document in value
    )


#: What a field of this name must look like, in whatever message it stands.
CHECKS: dict[str, Check] = {
    "run": _is_text,
    "life": _is_text,
    "name": _is_text,
    "engine": _is_text,
    "reason": _is_text,
    "text": _is_text,
    "step": _is_count,
    "start": _is_count,
    "count": _is_count,
    "document": _is_count,
    "worker": _is_count,
    "ready": _is_flag,
    "training": _is_flag,
    "seconds": _is_seconds,
    "losses": _is_numbers,
    "gradient": _is_vector_map,
    "weights": _is_vector_map,
    "model": _is_model,
    "documents": _is_documents,
}


_FIELDS: dict[type[Message], tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in KINDS.values()
}


def encode(message: Message, protocol: int = PROTOCOL) -> bytes:
    """The bytes of a message."""
    plain: dict[str, Any] = {"kind": type(message).__name__.lower(), "protocol": protocol}
    for name in _FIELDS[type(message)]:
        plain[name] = getattr(message, name)
    packed: bytes = msgpack.packb(plain)
    return packed


def decode(data: bytes | memoryview, longest_list: int = MAX_DOCUMENTS) -> Message:
    """The message in ``data``.

    ``longest_list`` is 0 at the coordinator: what workers say has no list in it, and lists within
    lists that promise more than they hold take much memory for a few bytes.

    Raises VersionMismatchError for another version of the protocol, and ProtocolError for
    anything else that is not exactly one known message.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {len(data)} bytes is too long")
    try:
        plain = msgpack.unpackb(
            data, use_list=False, max_map_len=MAX_MATRICES, max_array_len=longest_list
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not msgpack: {str(error)[:80] or type(error).__name__}") from error
    if not isinstance(plain, dict) or "protocol" not in plain:
        raise ProtocolError("not a message of this protocol")
    protocol = plain.pop("protocol")
    if type(protocol) is not int or protocol != PROTOCOL:
        raise VersionMismatchError(
            f"the peer speaks protocol {ascii(protocol)[:20]}, this program {PROTOCOL}: "
            "run the same version on both sides"
        )
    return _build(plain)


def _build(plain: dict[Any, Any]) -> Message:
    name = plain.pop("kind", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ProtocolError("a message of unknown kind")
    names = _FIELDS[kind]
    if plain.keys() != set(names):
        raise ProtocolError(f"a message '{name}' with missing or unknown fields")
    for field in names:
        if not CHECKS[field](plain[field]):
            raise ProtocolError(f"a message '{name}' whose field '{field}' has a wrong value")
    return kind(**plain)
