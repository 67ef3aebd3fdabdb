"""The one order in which gradients are summed, whoever computed them.

The sum over a batch is a pairwise tree over the position in the batch: level by level neighbours
(0,1), (2,3), ... are added, and an odd last one moves up unchanged. A shard is an aligned block of
``2**k`` documents, so its own tree sum is a node of the batch's tree, and the tree sum over the
shards' sums is the batch's sum, to the bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


def tree_sum(items: Sequence[T], add: Callable[[Any, Any], T] = operator.add) -> T:
    """Pairwise tree sum over the order of ``items``. Raises ValueError for an empty sequence."""
    if not items:
        raise ValueError("a sum over nothing has no value")
    level = list(items)
    while len(level) > 1:
        pairs = [add(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


class Shard(NamedTuple):
    """Documents ``start`` to ``start + count - 1`` of a batch: a node of its tree.

    ``start`` is a multiple of the power of two from ``count`` upwards.
    """

    start: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs


def shards(batch_size: int, shard_size: int) -> list[Shard]:
    """The batch cut into aligned shards; the last may be shorter.

    Raises ValueError unless ``shard_size`` is a power of two and ``batch_size`` at least 1.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size must be at least 1, not {batch_size}")
    if shard_size < 1 or shard_size & (shard_size - 1):
        raise ValueError(f"the shard size must be a power of two, not {shard_size}")
    return [
        Shard(start, min(shard_size, batch_size - start))
        for start in range(0, batch_size, shard_size)
    ]


def sum_of_shards(
    parts: Sequence[tuple[Shard, T]], add: Callable[[Any, Any], T] = operator.add
) -> T:
    """The batch's tree sum from the sums of its shards, which may be of different sizes.

    Shards that are not there count nothing. Raises ValueError if there are none at all, or if they
    are not in the order of the batch or overlap.
    """
    if not parts:
        raise ValueError("a sum over nothing has no value")
    before = 0
    for shard, _ in parts:
        if shard.start < before:
            raise ValueError(f"{shard} overlaps the one before, or stands behind it")
        before = shard.start + shard.count
    size = parts[0][0].count
    whole = [(place * size, size) for place in range(len(parts))]
    if [shard for shard, _ in parts] == whole and not size & (size - 1):
        return tree_sum([part for _, part in parts], add)  # as nearly always, and sooner
    waiting: list[tuple[Shard, T]] = []  # from left to right, none in the same half of a node
    for part in parts:
        _join(waiting, part[0].start, add)
        waiting.append(part)
    _join(waiting, 1 << before.bit_length(), add)
    return waiting[0][1]


def _join(waiting: list[tuple[Shard, T]], start: int, add: Callable[[Any, Any], T]) -> None:
    """Add up what lies in one node of the tree that ends before ``start``, at the right end."""
    while len(waiting) > 1:
        (left, a), (right, b) = waiting[-2:]
        # The smallest node with both in it ends where a higher bit of the place changes.
        if _level(left.start, right.start) >= _level(left.start, start):
            return
        waiting[-2:] = [(left, add(a, b))]


def _level(first: int, second: int) -> int:
    """The level of the smallest node of the tree in which both places lie."""
    return (first ^ second).bit_length()
