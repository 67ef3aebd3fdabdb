"""The wire protocol of the coordinator with workers, and with whoever asks for checkpoints.

One message is one msgpack map: ``{"kind", "protocol", "run", "epoch", ...fields of the kind}``.
``run`` names the training run and ``epoch`` this start of its coordinator, so that messages of an
earlier epoch are recognised and dropped. Vectors travel as ``{parameter name: bytes}``, the bytes
being little-endian float64.

A peer's bytes are hostile until ``decode`` has checked them: sizes, names, types and ranges here
(see ``microgpt.protocol.schema``), and the shapes of vectors where the model is known. Nothing
here knows sockets.

Longer than 300 lines because the whole protocol stands in one place, a few lines for each message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, TypeAlias

import msgpack

from microgpt.protocol.schema import (
    CHECKS,
    MAX_DOCUMENTS,
    MAX_LISTED,
    MAX_PART,
    MAX_TEXT,
    NOT_LOOKED_INTO,
    Check,
    Stored,
)
from microgpt.support.records import record

__all__ = [
    "MAX_DOCUMENTS",
    "MAX_LISTED",
    "MAX_MESSAGE_BYTES",
    "MAX_PART",
    "MAX_TEXT",
    "NOT_LOOKED_INTO",
    "PROTOCOL",
    "CheckpointList",
    "CheckpointPart",
    "Failure",
    "FetchCheckpoint",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "ListCheckpoints",
    "Message",
    "NoCheckpoint",
    "ProtocolError",
    "Question",
    "Refuse",
    "ReplicaResult",
    "ReplicaState",
    "ReplicaTask",
    "Reply",
    "Reregister",
    "ShardResult",
    "Status",
    "Stop",
    "Stored",
    "Task",
    "TaskAhead",
    "VersionMismatchError",
    "Weights",
    "Welcome",
    "decode",
    "encode",
]  # fmt: skip

PROTOCOL = 7
#: Largest message that is read at all; the transport enforces it too.
MAX_MESSAGE_BYTES = 256 << 20
MAX_MATRICES = 100_000  # entries of a map of parameters


class ProtocolError(Exception):
    """A peer's message breaks the protocol; the message says how."""


class VersionMismatchError(ProtocolError):
    """A peer speaks another version of the protocol."""


@record(frozen=True)
class Message:
    """What every message carries: the run and the coordinator's epoch it belongs to.

    Both are empty before a worker has been welcomed.
    """

    run: str
    epoch: str


# --- from a worker -------------------------------------------------------------------------------


@record(frozen=True)
class Hello(Message):
    """A worker offers to work. ``engine`` is the name of the engine it computes with.

    ``libm`` is the digest of what its C library computes; see
    ``microgpt.numerics.platform_fingerprint``. ``attempt``: how often it has begun again before,
    so that a welcome that comes late is not taken for the answer.
    """

    name: str
    engine: str
    libm: str
    attempt: int = 0


@record(frozen=True)
class Heartbeat(Message):
    """A worker is alive, whatever it is computing.

    ``ready``: its engine has been made for this model. No work is given to it before.
    """

    ready: bool


@record(frozen=True)
class Status(Message):
    """Something people should know about a worker, such as that it is compiling."""

    text: str


@record(frozen=True)
class ShardResult(Message):
    """Losses and summed gradient of one shard of a round; ``round`` and ``step`` as in the task.

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
    round: int = field(kw_only=True)


@record(frozen=True)
class ReplicaResult(ShardResult):
    """What a replica has made of its part; see ``ReplicaTask``.

    ``payload``: the compressed vector, where the run compresses; ``gradient`` is empty then.
    ``state``: the replica after the task where a snapshot was wanted, else empty.
    """

    payload: bytes = field(kw_only=True)
    state: Mapping[str, bytes] = field(kw_only=True)


@record(frozen=True)
class Failure(Message):
    """A shard has no finite gradient or loss; ``document`` is its position in the round."""

    step: int
    document: int
    reason: str
    training: bool = True
    round: int = field(kw_only=True)


@record(frozen=True)
class Goodbye(Message):
    """A worker leaves; what it has in flight must be given to others."""


# --- from the coordinator ------------------------------------------------------------------------


@record(frozen=True)
class Welcome(Message):
    """A worker is taken in as number ``worker``; ``model`` has the fields of GPTConfig.

    ``seconds`` is the longest time between two messages of a worker that lives. ``recipe``: what
    replicas do, as ``microgpt.replicas.recipe`` reads it; empty in a run without any. ``attempt``:
    that of the Hello which this answers.
    """

    worker: int
    seconds: float
    model: Mapping[str, int]
    recipe: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    attempt: int = 0


@record(frozen=True)
class Reregister(Message):
    """A message came from somebody the coordinator does not know: say Hello again."""


@record(frozen=True)
class Weights(Message):
    """The weights after ``step`` updates, which tasks of that ``step`` are computed with."""

    step: int
    weights: Mapping[str, bytes]


@record(frozen=True)
class Task(Message):
    """One shard of a round: ``count`` documents from its position ``start`` on.

    ``tokens``: the token ids of all of them, one document after the other, and ``lengths``: how
    many each has; little-endian int32 both. ``round`` is the round's number in this epoch, from 0;
    the weights are those after ``step`` updates. ``training`` False: the losses of held-out
    documents are wanted, and no gradient.
    """

    step: int
    start: int
    count: int
    tokens: bytes
    lengths: bytes
    training: bool = True
    round: int = field(kw_only=True)


@record(frozen=True)
class TaskAhead(Message):
    """A ``Task`` whose weights, those after ``step`` updates, come later: it is begun with them."""

    step: int
    start: int
    count: int
    tokens: bytes
    lengths: bytes
    round: int = field(kw_only=True)


@record(frozen=True)
class ReplicaState(Message):
    """Replica ``replica`` as it was after ``clock`` tasks: its next task goes on from there.

    ``vectors``: what it keeps, by name, as little-endian float64; nothing before its first task.
    """

    replica: int
    clock: int
    vectors: Mapping[str, bytes]


@record(frozen=True)
class ReplicaTask(Task):
    """The part of a replica that has done ``clock`` tasks; answered by a ``ReplicaResult``.

    ``steps``, ``elastic`` and ``updates``: see ``microgpt.replicas.state.Assignment``.
    ``snapshot``: the state after it is wanted, too. ``redo``: it was done before, by somebody who
    is gone: no answer.
    """

    replica: int = field(kw_only=True)
    clock: int = field(kw_only=True)
    steps: int = field(kw_only=True)
    elastic: float = field(kw_only=True)
    updates: int = field(kw_only=True)
    snapshot: bool = field(kw_only=True)
    redo: bool = field(kw_only=True)


@record(frozen=True)
class Refuse(Message):
    """The worker cannot take part, and trying again will not help."""

    reason: str


@record(frozen=True)
class Stop(Message):
    """There is no more work; the worker ends."""

    reason: str


# --- checkpoints: questions of anybody, and the coordinator's replies ----------------------------
#
# Who asks is no worker and says no Hello; ``run`` and ``epoch`` are empty. ``number`` is the
# asker's own for a question, and comes back in the reply.


@record(frozen=True)
class ListCheckpoints(Message):
    """Which checkpoints are there?"""

    number: int


@record(frozen=True)
class FetchCheckpoint(Message):
    """The bytes of the checkpoint of step ``wanted`` from ``offset`` on; None: of the newest.

    The newest one is not sent if its step is ``known``.
    """

    number: int
    wanted: int | None
    offset: int
    known: int | None


@record(frozen=True)
class CheckpointList(Message):
    """The newest checkpoints in ascending order of steps; ``omitted`` older ones are left out.

    Entries are plain tuples once they are decoded: ``Stored._make`` names their fields.
    """

    number: int
    entries: tuple[Stored, ...]
    omitted: int


@record(frozen=True)
class CheckpointPart(Message):
    """``data``: the ``MAX_PART`` bytes of a file of ``total`` from ``offset``, or what is left."""

    number: int
    step: int
    total: int
    offset: int
    data: bytes


@record(frozen=True)
class NoCheckpoint(Message):
    """There is nothing to send. ``again``: beginning anew in a while may help."""

    number: int
    reason: str
    again: bool


Question: TypeAlias = ListCheckpoints | FetchCheckpoint
Reply: TypeAlias = CheckpointList | CheckpointPart | NoCheckpoint


KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (
        Hello, Heartbeat, Status, ShardResult, Failure, Goodbye,
        Welcome, Reregister, Weights, Task, TaskAhead, Refuse, Stop,
        ReplicaResult, ReplicaState, ReplicaTask,
        ListCheckpoints, FetchCheckpoint, CheckpointList, CheckpointPart, NoCheckpoint,
    )
}  # fmt: skip


#: The fields of each message, with what they must look like.
_FIELDS: dict[type[Message], dict[str, Check]] = {
    kind: {field.name: CHECKS[field.name] for field in fields(kind)} for kind in KINDS.values()
}


def encode(message: Message, protocol: int = PROTOCOL) -> bytes:
    """The bytes of a message."""
    plain: dict[str, Any] = {"kind": type(message).__name__.lower(), "protocol": protocol}
    for name in _FIELDS[type(message)]:
        plain[name] = getattr(message, name)
    packed: bytes = msgpack.packb(plain)
    return packed


def decode(data: bytes | memoryview, longest_list: int = MAX_LISTED) -> Message:
    """The message in ``data``.

    ``longest_list`` is 0 at coordinator and workers: what they hear has no list in it, and lists in
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
    checks = _FIELDS[kind]
    if plain.keys() != checks.keys():
        raise ProtocolError(f"a message '{name}' with missing or unknown fields")
    for key, check in checks.items():
        if not check(plain[key]):
            raise ProtocolError(f"a message '{name}' whose field '{key}' has a wrong value")
    return kind(**plain)
