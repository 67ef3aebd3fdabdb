"""Parameters as rows, as one flat vector and as bytes."""

from __future__ import annotations

import hashlib
import math
import random
import struct
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import (
    ParameterShapes,
    Shapes,
    all_finite,
    flatten,
    from_bytes,
    init_parameters,
    join_bytes,
    num_params,
    sha256,
    split_bytes,
    to_bytes,
    unflatten,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=60, database=None)
SHAPES = {"a": (2, 3), "b": (1, 1), "c": (3, 1)}
FLAT = [float(number) for number in range(10)]
ROWS = {"a": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], "b": [[6.0]], "c": [[7.0], [8.0], [9.0]]}


def test_num_params() -> None:
    assert num_params(SHAPES) == 10
    assert num_params({}) == 0
    assert num_params(parameter_shapes(GPTConfig(vocab_size=27))) == 4192


def test_rows_are_filled_in_canonical_order() -> None:
    assert unflatten(FLAT, SHAPES) == ROWS
    assert list(unflatten(FLAT, SHAPES)) == ["a", "b", "c"]
    assert flatten(ROWS, SHAPES) == FLAT


def test_order_comes_from_the_shapes_not_from_the_map() -> None:
    assert flatten(dict(reversed(ROWS.items())), SHAPES) == FLAT


def test_unflatten_takes_any_sequence_and_gives_plain_floats() -> None:
    kinds: list[Any] = [np.arange(10.0), array("d", FLAT), tuple(range(10))]
    for flat in kinds:
        rows = unflatten(flat, SHAPES)
        assert rows == ROWS
        assert all(type(x) is float for matrix in rows.values() for row in matrix for x in row)


@pytest.mark.parametrize("length", [0, 9, 11])
def test_unflatten_needs_the_right_length(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} numbers do not fill 10 parameters"):
        unflatten([0.0] * length, SHAPES)


def test_flatten_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="no matrix 'b'"):
        flatten({"a": ROWS["a"], "c": ROWS["c"]}, SHAPES)
    with pytest.raises(ValueError, match="'a' is not 2 by 3"):
        flatten({**ROWS, "a": ROWS["a"][:1]}, SHAPES)
    with pytest.raises(ValueError, match="'c' is not 3 by 1"):
        flatten({**ROWS, "c": [[7.0], [8.0], [9.0, 10.0]]}, SHAPES)


def test_bytes_are_little_endian_binary64() -> None:
    assert to_bytes([1.0, -2.5]) == struct.pack("<2d", 1.0, -2.5)
    assert to_bytes([1.0]).hex() == "000000000000f03f"
    assert list(from_bytes(bytes.fromhex("000000000000f03f"))) == [1.0]
    assert to_bytes([]) == b""
    assert len(from_bytes(b"")) == 0


def test_byte_order_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a big-endian machine arrays are swapped, once in each direction."""
    native = to_bytes([1.0, 0.1])
    monkeypatch.setattr("sys.byteorder", "big")
    assert to_bytes([1.0, 0.1]) == struct.pack(">2d", 1.0, 0.1) != native
    assert list(from_bytes(struct.pack(">2d", 1.0, 0.1))) == [1.0, 0.1]


def test_to_bytes_leaves_its_argument_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.byteorder", "big")
    numbers = array("d", [1.0, 2.0])
    to_bytes(numbers)
    assert list(numbers) == [1.0, 2.0]


def test_to_bytes_agrees_with_numpy() -> None:
    numbers: Any = np.array([0.1, -0.0, 1e300, 5e-324])
    assert to_bytes(numbers) == numbers.astype("<f8").tobytes()


@pytest.mark.parametrize("length", [1, 7, 9, 15])
def test_from_bytes_needs_whole_numbers(length: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        from_bytes(bytes(length))


@QUICK
@given(st.lists(st.floats(), min_size=10, max_size=10))
def test_round_trips_keep_every_bit(flat: list[float]) -> None:
    data = to_bytes(flat)
    assert data == struct.pack("<10d", *flat)
    assert to_bytes(from_bytes(data)) == data
    assert to_bytes(flatten(unflatten(flat, SHAPES), SHAPES)) == data
    assert join_bytes(split_bytes(data, SHAPES), SHAPES) == data


def test_split_bytes_names_each_part() -> None:
    parts = split_bytes(to_bytes(FLAT), SHAPES)
    assert {name: list(from_bytes(part)) for name, part in parts.items()} == {
        "a": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "b": [6.0],
        "c": [7.0, 8.0, 9.0],
    }
    assert list(parts) == ["a", "b", "c"]


@pytest.mark.parametrize("length", [0, 79, 81, 88])
def test_split_bytes_needs_the_right_length(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes do not fill 10 parameters"):
        split_bytes(bytes(length), SHAPES)


@pytest.mark.parametrize("shapes", [SHAPES, ParameterShapes(SHAPES)])
def test_join_bytes_order_comes_from_the_shapes(shapes: Shapes) -> None:
    parts = split_bytes(to_bytes(FLAT), shapes)
    assert join_bytes(parts, shapes) == to_bytes(FLAT)
    assert join_bytes(dict(reversed(parts.items())), shapes) == to_bytes(FLAT)


@pytest.mark.parametrize("shapes", [SHAPES, ParameterShapes(SHAPES)])
def test_join_bytes_names_what_is_wrong(shapes: Shapes) -> None:
    parts = split_bytes(to_bytes(FLAT), shapes)
    with pytest.raises(ValueError, match=r"missing or unknown parameters: b$"):
        join_bytes({name: part for name, part in parts.items() if name != "b"}, shapes)
    with pytest.raises(ValueError, match=r"missing or unknown parameters: extra$"):
        join_bytes({**parts, "extra": b""}, shapes)
    with pytest.raises(ValueError, match="'c' has 16 bytes, not 24"):
        join_bytes({**parts, "c": bytes(16)}, shapes)
    with pytest.raises(ValueError, match="missing or unknown"):
        join_bytes({**parts, 7: b""}, shapes)  # type: ignore[dict-item]


def test_join_bytes_of_many_unknown_names_stays_short() -> None:
    with pytest.raises(ValueError, match="missing or unknown") as caught:
        join_bytes({f"n{number}": b"" for number in range(10_000)}, SHAPES)
    assert len(str(caught.value)) < 200


def test_parameters_are_drawn_as_microgpt_draws_them() -> None:
    rng, expected = random.Random(42), random.Random(42)
    flat = init_parameters(SHAPES, rng)
    assert flat == [expected.gauss(0, 0.08) for _ in range(10)]
    assert rng.getstate() == expected.getstate()  # nothing else was drawn


def test_drawing_goes_matrix_by_matrix_and_row_by_row() -> None:
    expected = random.Random(7)
    rows = unflatten(init_parameters(SHAPES, random.Random(7)), SHAPES)
    for name, (height, width) in SHAPES.items():
        assert rows[name] == [
            [expected.gauss(0, 0.08) for _ in range(width)] for _ in range(height)
        ]


def test_all_finite() -> None:
    assert all_finite([])
    assert all_finite([0.0, -1.7e308, 5e-324])
    for bad in (math.nan, math.inf, -math.inf):
        assert not all_finite([0.0, bad, 1.0])
    assert all_finite(array("d", [1.0]))
    numbers: Any = np.array([1.0, np.nan])
    assert not all_finite(numbers)


def test_sha256_is_of_the_parts_together() -> None:
    expected = hashlib.sha256(b"abcdef").hexdigest()
    assert sha256(b"abcdef") == sha256(b"ab", b"", b"cdef") == expected
    assert sha256() == hashlib.sha256(b"").hexdigest()
