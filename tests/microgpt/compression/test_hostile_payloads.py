from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from microgpt.compression.base import CompressionError, Compressor
from microgpt.compression.registry import load_compressor
from tests.microgpt.compression.inputs import SMALL, SPECS, gradient

every = pytest.mark.parametrize("spec", SPECS)
pytestmark = pytest.mark.filterwarnings("error")


def payload_of(compressor: Compressor) -> bytes:
    return compressor.compress(gradient(4), SMALL, compressor.init(SMALL), 1)[0]


def is_accepted(compressor: Compressor, payload: bytes) -> bool:
    """Whether it decodes, and if so to finite numbers; nothing but CompressionError may come."""
    try:
        sent = compressor.decompress(payload, SMALL, 1)
    except CompressionError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "\n" not in said
        return False
    assert sent.shape == (47,)
    assert np.isfinite(sent).all()
    return True


@every
def test_payloads_of_any_other_length_are_refused(spec: str) -> None:
    compressor = load_compressor(spec)
    payload = payload_of(compressor)
    assert is_accepted(compressor, payload)
    for length in range(len(payload)):
        assert not is_accepted(compressor, payload[:length])
    for more in (b"\0", b"\xff", payload, bytes(1000)):
        assert not is_accepted(compressor, payload + more)


@every
def test_flipped_bits_decode_to_finite_numbers_or_are_refused(spec: str) -> None:
    compressor = load_compressor(spec)
    payload = payload_of(compressor)
    for place in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[place // 8] ^= 1 << place % 8
        is_accepted(compressor, bytes(flipped))


@every
def test_noise_decodes_to_finite_numbers_or_is_refused(spec: str) -> None:
    compressor, rng = load_compressor(spec), random.Random(7)
    payload = payload_of(compressor)
    for _ in range(400):
        noise = bytearray(payload)
        start = rng.randrange(len(payload))
        end = rng.randrange(start, len(payload)) + 1
        noise[start:end] = rng.randbytes(end - start)
        is_accepted(compressor, bytes(noise))
        is_accepted(compressor, rng.randbytes(len(payload)))
    for byte in (b"\x00", b"\x7f", b"\x80", b"\xff"):
        is_accepted(compressor, byte * len(payload))


def with_bytes(spec: str, at: int, data: bytes) -> bytes:
    """The payload with some bytes replaced, from the end if ``at`` is negative."""
    payload = bytearray(payload_of(load_compressor(spec)))
    at %= len(payload)
    payload[at : at + len(data)] = data
    return bytes(payload)


NAN, INF = struct.pack("<d", float("nan")), struct.pack("<d", float("-inf"))
BELOW = struct.pack("<d", -1.0)
HUGE = struct.pack("<d", 1.7e308)


@pytest.mark.parametrize(
    ("spec", "at", "data", "why"),
    [
        ("f32", 0, struct.pack("<f", float("inf")), "infinite numbers or NaN"),
        ("f32", 4, struct.pack("<I", 0x7F800001), "infinite numbers or NaN"),  # a signalling NaN
        ("f16", 0, struct.pack("<e", float("nan")), "infinite numbers or NaN"),
        ("bf16", 0, b"\x80\x7f", "infinite numbers or NaN"),
        ("int8", 0, NAN, "infinite numbers or NaN"),
        ("int8", 8, INF, "infinite numbers or NaN"),
        ("int8", 16, BELOW, "negative scale"),
        ("int8", -1, b"\x80", "byte -128"),
        ("qsgd", 0, NAN, "infinite numbers or NaN"),
        ("qsgd", 0, BELOW, "negative scale"),
        ("qsgd", 8, b"\xff", "level beyond 7"),
        ("qsgd", -1, b"\xf7", "bits set behind its last number"),
        ("sign", 0, INF, "infinite numbers or NaN"),
        ("sign", 8, BELOW, "negative scale"),
        ("sign", -1, b"\x80", "bits set behind its last number"),
        ("sign:vote=true", -1, b"\x80", "bits set behind its last number"),
        ("onebit", 0, NAN, "infinite numbers or NaN"),
        ("onebit:column", 8, INF, "infinite numbers or NaN"),
        ("onebit", -1, b"\x80", "bits set behind its last number"),
        ("topk:0.3", 26, b"\x2f\x00", "place beyond 47 parameters"),
        ("topk:0.3", 0, b"\x2e\x00", "places do not ascend"),
        ("topk:0.3", 0, b"\xff\xff", "places do not ascend"),
        ("topk:0.3", 0, bytes(4), "places do not ascend"),
        ("topk:0.3", -8, NAN, "infinite numbers or NaN"),
        ("randomk", -8, INF, "infinite numbers or NaN"),
        ("powersgd", 0, NAN, "infinite numbers or NaN"),
        ("powersgd", 0, HUGE * 24, "infinite numbers or NaN"),  # each is finite, the product not
    ],
)
def test_what_is_wrong_is_said(spec: str, at: int, data: bytes, why: str) -> None:
    with pytest.raises(CompressionError, match=why):
        load_compressor(spec).decompress(with_bytes(spec, at, data), SMALL, 1)
