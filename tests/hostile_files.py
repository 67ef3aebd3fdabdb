"""Files that look like a checkpoint and are none, or a strange one: mutations of a real one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack

from microgpt.checkpoint.container import seal
from microgpt.parameters import to_bytes

#: Values that somebody might put in the place of another.
STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64 - 1, 0.0, -0.0, 1e308, -1e-310,
    float("nan"), float("inf"), "", "x", "\x1b[2J", "\u202e", "a" * 5000, b"", b"\0" * 8, [], {},
    [[]], {"a": {}}, [1.5] * 200, {str(i): i for i in range(50)}, msgpack.ExtType(5, b"x" * 9),
    to_bytes([float("nan")] * 4), to_bytes([1e308] * 16),
]  # fmt: skip
#: Headers that announce far more than follows: lists, maps, texts, bytes, extensions.
BOMBS = [
    b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff" * 500, b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff" * 500,
    b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\x91" * 5000,
    b"\x81\x00" * 5000, b"\xdd\x00\x00\x27\x10" * 900, b"\xdd\x00\x01\x86\x9f" * 900,
]  # fmt: skip


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` variants of a checkpoint file; half of them with a digest that is right."""
    rng = random.Random(seed)
    body: bytes = msgpack.unpackb(data)["body"]
    for number in range(count):
        kind = number % 4
        if kind == 0:
            yield mangle(data, rng)
        elif kind == 1:
            yield seal(mangle(body, rng))
        elif kind == 2:
            yield seal(msgpack.packb(with_strange_value(msgpack.unpackb(body), rng)))
        else:
            outer = msgpack.unpackb(data)
            yield msgpack.packb(with_strange_value(outer, rng))


def mangle(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, lost, doubled or put in between."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 3, 20])):
        # The beginning holds the structure, the rest are mostly numbers.
        place = rng.randrange(min(len(changed), rng.choice([40, 400, 1 << 30])) or 1)
        length = rng.choice([1, 1, 2, 9, 300])
        part = changed[place : place + length]
        choices = [
            bytes(byte ^ (1 << rng.randrange(8)) for byte in part),
            rng.randbytes(len(part)),
            b"\xff" * len(part),
            b"",
            part + part,
            rng.choice(BOMBS) + part,
        ]
        changed[place : place + length] = rng.choice(choices)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def with_strange_value(whole: Any, rng: random.Random, values: Sequence[Any] = STRANGE) -> Any:
    """The same with another value in one place, or without it."""
    place = whole
    while True:
        key = rng.choice(list(place))
        if not isinstance(place[key], dict) or not place[key] or rng.random() < 0.2:
            break
        place = place[key]
    if rng.random() < 0.1:
        del place[key]
    elif rng.random() < 0.1:
        place[rng.choice(["", "more", "\x1b[2J"])] = rng.choice(values)
    else:
        place[key] = rng.choice(values)
    return whole
