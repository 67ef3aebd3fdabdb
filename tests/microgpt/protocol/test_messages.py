"""The wire protocol: what is encoded comes back, and nothing else is let in."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import strategies as st

from microgpt.data.packed import PackedDocuments
from microgpt.protocol import messages
from microgpt.protocol.messages import (
    KINDS,
    MAX_PART,
    CheckpointList,
    CheckpointPart,
    Failure,
    FetchCheckpoint,
    Goodbye,
    Heartbeat,
    Hello,
    ListCheckpoints,
    Message,
    NoCheckpoint,
    ProtocolError,
    Refuse,
    ReplicaResult,
    ReplicaState,
    ReplicaTask,
    Reregister,
    ShardResult,
    Status,
    Stop,
    Stored,
    Task,
    TaskAhead,
    VersionMismatchError,
    Weights,
    Welcome,
    decode,
    encode,
)
from tests.marks import tried

DOCUMENTS = PackedDocuments.pack([[26, 0, 1, 26], [26, 26]])
EXAMPLES: list[Message] = [
    Hello("", "", "w\u00f6rker", "scalar", "5ha", 3),
    Heartbeat("run", "epoch", ready=True),
    Status("run", "epoch", "compiling"),
    ShardResult(
        "run", "epoch", 7, 4, 2, 0.25, bytes(16), {"wte": bytes(8), "wpe": b"12345678"}, round=3
    ),
    Failure("run", "epoch", 7, 5, "the loss is inf", round=3),
    Goodbye("run", "epoch"),
    Welcome(
        "run",
        "epoch",
        3,
        1.5,
        {"vocab_size": 27, "n_embd": 16},
        {"seed": 3, "eps": 1e-8, "x": True},
        3,
    ),
    Reregister("run", "epoch"),
    Weights("run", "epoch", 7, {"wte": bytes(80)}),
    Task("run", "epoch", 7, 4, 2, *DOCUMENTS.to_bytes(), round=3),
    TaskAhead("run", "epoch", 8, 4, 2, *DOCUMENTS.to_bytes(), round=4),
    ReplicaTask(
        "run",
        "epoch",
        7,
        4,
        2,
        *DOCUMENTS.to_bytes(),
        round=3,
        replica=5,
        clock=9,
        steps=2,
        elastic=0.5,
        updates=9,
        snapshot=True,
        redo=False,
    ),
    ReplicaState("run", "epoch", 5, 9, {"residual": bytes(16)}),
    ReplicaResult(
        "run",
        "epoch",
        7,
        4,
        2,
        0.25,
        bytes(16),
        {},
        round=3,
        payload=b"abc",
        state={"residual": bytes(16)},
    ),
    Refuse("run", "epoch", "no"),
    Stop("run", "epoch", "done"),
    ListCheckpoints("", "", 1),
    FetchCheckpoint("", "", 2, None, 0, 90),
    CheckpointList(
        "run",
        "epoch",
        1,
        (Stored(5, 999, 2.5, 4, 2.75, ""), Stored(6, 0, None, None, None, "truncated")),
        3,
    ),
    CheckpointPart("run", "epoch", 2, 100, 300_000, 262_144, b"rest"),
    NoCheckpoint("run", "epoch", 2, "there is no checkpoint yet", again=True),
]
by_kind = pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)


def test_every_kind_has_an_example() -> None:
    assert {type(message) for message in EXAMPLES} == set(KINDS.values())


@by_kind
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message
    assert decode(memoryview(encode(message))) == message


@by_kind
def test_the_form_on_the_wire(message: Message) -> None:
    plain = msgpack.unpackb(encode(message))
    assert plain["kind"] == type(message).__name__.lower()
    assert plain["protocol"] == messages.PROTOCOL
    assert (plain["run"], plain["epoch"]) == (message.run, message.epoch)


@pytest.mark.parametrize("protocol", [0, 2, -1, None, "3", 3.0, True, b"3", [3], "\x1b[2J" * 9])
def test_another_version_is_told_from_garbage(protocol: Any) -> None:
    with pytest.raises(VersionMismatchError, match=f"this program {messages.PROTOCOL}") as caught:
        decode(encode(EXAMPLES[0], protocol=protocol))
    assert str(caught.value).isprintable()


def changed(message: Message, **fields: Any) -> bytes:
    plain = {**msgpack.unpackb(encode(message)), **fields}
    return bytes(msgpack.packb({key: value for key, value in plain.items() if value is not ...}))


ANSWER, TASK, WELCOME = EXAMPLES[3], EXAMPLES[9], EXAMPLES[6]
FETCH, LIST, PART = EXAMPLES[13:16]


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (ANSWER, {"step": -1}),
        (ANSWER, {"step": 1.0}),
        (ANSWER, {"step": True}),
        (ANSWER, {"step": 1 << 63}),
        (ANSWER, {"start": None}),
        (ANSWER, {"count": "2"}),
        (ANSWER, {"seconds": 1}),
        (ANSWER, {"seconds": math.nan}),
        (ANSWER, {"seconds": math.inf}),
        (ANSWER, {"seconds": -0.5}),
        (ANSWER, {"losses": bytes(7)}),
        (ANSWER, {"losses": "12345678"}),
        (ANSWER, {"losses": [1.0, 2.0]}),
        (ANSWER, {"gradient": bytes(8)}),
        (ANSWER, {"gradient": {"wte": [0.0]}}),
        (ANSWER, {"gradient": {"wte": bytes(9)}}),
        (ANSWER, {"gradient": {b"wte": bytes(8)}}),
        (ANSWER, {"gradient": {"x" * 3000: bytes(8)}}),
        (ANSWER, {"gradient": ...}),
        (ANSWER, {"further": 1}),
        (ANSWER, {"run": b"run"}),
        (ANSWER, {"epoch": 5}),
        (ANSWER, {"kind": "ShardResult"}),
        (ANSWER, {"kind": "message"}),
        (ANSWER, {"kind": None}),
        (ANSWER, {"kind": ["answer"]}),
        (ANSWER, {"kind": ...}),
        (TASK, {"tokens": b"123"}),
        (TASK, {"tokens": [1, 2]}),
        (TASK, {"lengths": b"12345"}),
        (TASK, {"lengths": "abcd"}),
        (WELCOME, {"model": {"n_embd": -1}}),
        (WELCOME, {"model": {"n_embd": 1.5}}),
        (WELCOME, {"model": []}),
        (EXAMPLES[0], {"name": "x" * 3000}),
        (EXAMPLES[10], {"reason": None}),
        (FETCH, {"number": None}),
        (FETCH, {"wanted": -1}),
        (FETCH, {"wanted": "../../../etc/passwd"}),
        (FETCH, {"wanted": False}),
        (FETCH, {"offset": None}),
        (FETCH, {"offset": -1}),
        (FETCH, {"offset": 1 << 63}),
        (FETCH, {"known": 1.0}),
        (LIST, {"entries": [[5, 999, 2.5, 4, 2.75]]}),
        (LIST, {"entries": [[5, 999, 2.5, 4, 2.75, "", ""]]}),
        (LIST, {"entries": [[-5, 999, 2.5, 4, 2.75, ""]]}),
        (LIST, {"entries": [[5, None, 2.5, 4, 2.75, ""]]}),
        (LIST, {"entries": [[5, 999, math.nan, 4, 2.75, ""]]}),
        (LIST, {"entries": [[5, 999, 2.5, 4.0, 2.75, ""]]}),
        (LIST, {"entries": [[5, 999, 2.5, 4, 2, ""]]}),
        (LIST, {"entries": [[5, 999, 2.5, 4, 2.75, None]]}),
        (LIST, {"entries": [5]}),
        (LIST, {"entries": {}}),
        (PART, {"data": "rest"}),
        (PART, {"data": bytes(MAX_PART + 1)}),
        (PART, {"data": None}),
        (EXAMPLES[16], {"again": 1}),
    ],
)
def test_wrong_fields_are_refused(message: Message, fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(changed(message, **fields))
    assert not isinstance(caught.value, VersionMismatchError)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\xc0", b"\x80", b"\x81", b"\x90", b"hello", b"\x91" * 10_000,
        b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
        b"\xd9\x02\xff\xff",
        b"\x81\x80\xc0", b"\x81\x01\x01", b"\xc7\x00\x05", b"\xd6\xff\x00\x00\x00\x00",
        encode(EXAMPLES[1]) + b"\x00", encode(EXAMPLES[1])[:-1],
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_message_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(ANSWER)
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", len(data) - 1)
    with pytest.raises(ProtocolError, match="too long"):
        decode(data)
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", len(data))
    assert decode(data) == ANSWER


@tried(100, 400, st.binary(max_size=200))
def test_random_bytes_are_never_anything_but_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@tried(200, 1500, st.sampled_from(EXAMPLES), st.data())
def test_mutated_messages(message: Message, data: st.DataObject) -> None:
    mutated = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if how == "set":
            mutated[place] = data.draw(st.integers(0, 255))
        elif how == "cut" and len(mutated) > 1:
            del mutated[place]
        else:
            mutated.insert(place, data.draw(st.integers(0, 255)))
    try:
        decoded = decode(bytes(mutated))
    except ProtocolError as error:
        assert str(error).isprintable()  # noqa: PT017  # either way is right
        return
    # What is let in is a message that we could have sent.
    assert decode(encode(decoded)) == decoded


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)  # fmt: skip


@tried(100, 600, st.sampled_from(EXAMPLES), st.data())
def test_fields_with_any_value(message: Message, data: st.DataObject) -> None:
    plain = msgpack.unpackb(encode(message))
    name = data.draw(st.sampled_from(sorted(plain.keys() - {"kind", "protocol"})))
    plain[name] = data.draw(plain_values)
    try:
        decoded = decode(msgpack.packb(plain))
    except ProtocolError:
        return
    assert type(decoded) is type(message)
    assert decode(encode(decoded)) == decoded
