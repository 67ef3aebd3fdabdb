"""The tree in which gradients are summed, and the shards that are its nodes."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.numerics.vectors import tree_sum_of
from microgpt.optim.reduction import Shard, shards, sum_of_shards, tree_sum

QUICK = settings(derandomize=True, deadline=None, max_examples=200, database=None)
POWERS = [2**k for k in range(8)]


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


def parentheses(a: str, b: str) -> str:
    return f"({a}{b})"


@pytest.mark.parametrize(
    ("letters", "tree"),
    [
        ("a", "a"),
        ("ab", "(ab)"),
        ("abc", "((ab)c)"),
        ("abcd", "((ab)(cd))"),
        ("abcde", "(((ab)(cd))e)"),
        ("abcdef", "(((ab)(cd))(ef))"),
        ("abcdefg", "(((ab)(cd))((ef)g))"),
        ("abcdefgh", "(((ab)(cd))((ef)(gh)))"),
        ("abcdefghi", "((((ab)(cd))((ef)(gh)))i)"),
        ("abcdefghijk", "((((ab)(cd))((ef)(gh)))((ij)k))"),
    ],
)
def test_the_tree_itself(letters: str, tree: str) -> None:
    assert tree_sum(letters, parentheses) == tree
    assert tree_sum(list(letters), parentheses) == tree


def test_bits_are_those_of_the_tree_and_not_of_a_running_sum() -> None:
    numbers = [0.1, 0.7, 0.2, 0.3, 0.4, 0.5, 0.6]
    expected = ((0.1 + 0.7) + (0.2 + 0.3)) + ((0.4 + 0.5) + 0.6)
    running = (((((0.1 + 0.7) + 0.2) + 0.3) + 0.4) + 0.5) + 0.6
    assert bits(tree_sum(numbers)) == bits(expected)
    assert expected != running


def test_order_of_the_items_matters() -> None:
    assert tree_sum([1e16, 1.0, -1e16, 1.0]) == 0.0
    assert tree_sum([1e16, -1e16, 1.0, 1.0]) == 2.0


def test_empty_sum_is_an_error() -> None:
    nothings: list[Sequence[float]] = [[], (), array("d")]
    for nothing in nothings:
        with pytest.raises(ValueError, match="nothing"):
            tree_sum(nothing)


def test_one_item_is_itself() -> None:
    item = object()
    assert tree_sum([item], add=lambda a, b: 1 / 0) is item


def test_the_argument_is_not_changed() -> None:
    numbers = [1.0, 2.0, 3.0]
    vectors = [np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])]
    tree_sum(numbers)
    total = tree_sum(vectors)
    assert numbers == [1.0, 2.0, 3.0]
    assert [vector.tolist() for vector in vectors] == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert total.tolist() == [9.0, 12.0]


def test_vectors_are_summed_element_by_element() -> None:
    rng = np.random.default_rng(1)
    vectors = list(rng.standard_normal((13, 5)))
    total = tree_sum(vectors)
    for column in range(5):
        assert bits(total[column]) == bits(tree_sum([float(v[column]) for v in vectors]))


@QUICK
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100),
        min_size=1,
        max_size=70,
    ),
    st.sampled_from(POWERS),
)
def test_shards_sums_are_nodes_of_the_batchs_tree(numbers: list[float], shard_size: int) -> None:
    partial = [
        tree_sum(numbers[shard.start : shard.start + shard.count])
        for shard in shards(len(numbers), shard_size)
    ]
    assert bits(tree_sum(partial)) == bits(tree_sum(numbers))


@pytest.mark.parametrize("shard_size", POWERS)
def test_the_tree_is_the_same_for_every_batch_size(shard_size: int) -> None:
    """Not only the rounded sum: the very same parentheses."""
    for batch_size in range(1, 140):
        names = [f"{index}." for index in range(batch_size)]
        partial = [
            tree_sum(names[shard.start : shard.start + shard.count], parentheses)
            for shard in shards(batch_size, shard_size)
        ]
        assert tree_sum(partial, parentheses) == tree_sum(names, parentheses)


def test_other_shard_sizes_would_change_the_tree() -> None:
    names = "abcdef"
    thirds = [tree_sum(names[:3], parentheses), tree_sum(names[3:], parentheses)]
    assert tree_sum(thirds, parentheses) != tree_sum(names, parentheses)


@pytest.mark.parametrize("shard_size", POWERS)
def test_shards_cover_the_batch_exactly(shard_size: int) -> None:
    for batch_size in range(1, 140):
        cut = shards(batch_size, shard_size)
        covered = [index for s in cut for index in range(s.start, s.start + s.count)]
        assert covered == list(range(batch_size))
        assert all(shard.start % shard_size == 0 for shard in cut)
        assert all(shard.count == shard_size for shard in cut[:-1])
        assert 1 <= cut[-1].count <= shard_size
        assert all(a < b for a, b in pairwise(cut))


def test_examples_of_shards() -> None:
    assert shards(10, 4) == [Shard(0, 4), Shard(4, 4), Shard(8, 2)]
    assert shards(1, 64) == [Shard(0, 1)]
    assert shards(3, 1) == [Shard(0, 1), Shard(1, 1), Shard(2, 1)]


def test_shards_can_be_keys() -> None:
    assert len({Shard(0, 4), Shard(0, 4), Shard(4, 4)}) == 2


@pytest.mark.parametrize("size", [0, -1, -4, 3, 5, 6, 7, 12, 100])
def test_shard_sizes_are_powers_of_two(size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, not {size}"):
        shards(8, size)


@pytest.mark.parametrize("size", [0, -1])
def test_batches_have_documents(size: int) -> None:
    with pytest.raises(ValueError, match=f"batch size must be at least 1, not {size}"):
        shards(size, 1)


def split(rng: random.Random, start: int, size: int, end: int) -> list[Shard]:
    """Nodes of the tree of ``end`` documents that cover those from ``start`` on, at random."""
    if start >= end:
        return []
    if size == 1 or rng.random() < 0.4:
        return [Shard(start, min(size, end - start))]
    return split(rng, start, size // 2, end) + split(rng, start + size // 2, size // 2, end)


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_shards_of_any_sizes_add_up_to_the_batch(count: int, rng: random.Random) -> None:
    names = [f"{i} " for i in range(count)]
    parts = [
        (shard, tree_sum(names[shard.start : shard.start + shard.count], parentheses))
        for shard in split(rng, 0, 1 << (count - 1).bit_length(), count)
    ]
    assert sum_of_shards(parts, parentheses) == tree_sum(names, parentheses)


def test_missing_shards_count_nothing() -> None:
    parts = [(Shard(0, 2), "a"), (Shard(4, 1), "b"), (Shard(6, 2), "c")]
    assert sum_of_shards(parts, parentheses) == parentheses("a", parentheses("b", "c"))


@pytest.mark.parametrize("starts", [(0, 0), (2, 0), (0, 1)])
def test_shards_that_overlap_are_refused(starts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="overlaps"):
        sum_of_shards([(Shard(start, 2), 1.0) for start in starts])
    with pytest.raises(ValueError, match="over nothing"):
        sum_of_shards([])


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=70))
def test_the_sum_of_an_array_has_the_bits_of_the_tree(numbers: list[float]) -> None:
    assert bits(tree_sum_of(np.array(numbers))) == bits(tree_sum(numbers))


def test_an_empty_array_has_no_sum() -> None:
    with pytest.raises(ValueError, match="over nothing"):
        tree_sum_of(np.empty(0))
