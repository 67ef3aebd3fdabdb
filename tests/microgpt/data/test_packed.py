"""Documents as arrays: the same documents, however they are cut, repeated, shortened and sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.data.packed import PackedDocuments

tokens = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)
corpora = st.lists(tokens, min_size=1, max_size=9)


@given(corpora)
def test_documents_come_out_as_they_went_in(documents: list[list[int]]) -> None:
    packed = PackedDocuments.pack(documents)
    assert [*packed] == documents
    assert [packed[i] for i in range(len(packed))] == documents
    assert packed[-1] == documents[-1]
    assert packed.tokens.dtype == packed.lengths.dtype == packed.starts.dtype == np.int32
    assert PackedDocuments.pack(packed) is packed
    assert [*PackedDocuments.from_bytes(*packed.to_bytes())] == documents


@given(corpora, st.integers(-10, 10), st.integers(-10, 10), st.sampled_from([1, 2, -1]))
def test_slices(documents: list[list[int]], begin: int, end: int, step: int) -> None:
    packed = PackedDocuments.pack(documents)
    cut = packed[begin:end:step]
    if step == 1 and 0 <= begin <= end <= len(documents):
        assert packed.to_bytes(begin, end) == cut.to_bytes()
    assert [*cut] == documents[begin:end:step]
    assert [cut[i] for i in range(len(cut))] == documents[begin:end:step]


@given(corpora, st.integers(0, 30), st.integers(0, 30))
def test_endless_repetition(documents: list[list[int]], first: int, count: int) -> None:
    expected = [documents[i % len(documents)] for i in range(first, first + count)]
    assert [*PackedDocuments.pack(documents).cyclic(first, count)] == expected


@given(corpora, st.integers(1, 7))
def test_shortened_documents(documents: list[list[int]], most: int) -> None:
    expected = [document[:most] for document in documents]
    assert [*PackedDocuments.pack(documents).shortened(most)] == expected


def test_slices_share_memory() -> None:
    packed = PackedDocuments.pack([[1, 2], [3], [4, 5, 6]])
    assert np.shares_memory(packed[1:].tokens, packed.tokens)
    assert packed.shortened(3) is packed


def test_nothing_to_repeat() -> None:
    with pytest.raises(ValueError, match="no document to repeat"):
        PackedDocuments.pack([]).cyclic(0, 1)


def int32(*numbers: int) -> bytes:
    return np.array(numbers, "<i4").tobytes()


@pytest.mark.parametrize(
    ("of_tokens", "of_lengths", "words"),
    [
        (int32(1, 2, 3), int32(2), "do not add up"),
        (int32(1, 2), int32(2, 1), "do not add up"),
        (int32(1, 2), int32(3, -1), "without a token"),
        (int32(1, 2), int32(2, 0), "without a token"),
        (int32(1, -2), int32(2), "below 0"),
        (b"123", int32(1), "multiple"),
        (int32(1), b"12345", "multiple"),
        (int32(), int32(2**31 - 1, 2**31 - 1), "do not add up"),
    ],
)
def test_bytes_that_cannot_be(of_tokens: bytes, of_lengths: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PackedDocuments.from_bytes(of_tokens, of_lengths)
