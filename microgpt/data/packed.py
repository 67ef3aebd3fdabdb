"""Documents as arrays: how they are kept, cut into shards, and sent, without a loop in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

#: int32, as compiled code takes them.
Ints: TypeAlias = NDArray[np.int32]

LITTLE_ENDIAN = np.dtype("<i4")


@dataclass(frozen=True, eq=False)
class PackedDocuments(Sequence[Sequence[int]]):
    """Documents one after the other; as a sequence, each is a list of its token ids.

    ``tokens``: (num_tokens,) int32, those of all documents. ``lengths``: (num_documents,) int32,
    how many tokens each has. Slices share the memory of the whole, and nothing is ever changed.
    """

    tokens: Ints
    lengths: Ints

    @classmethod
    def pack(cls, documents: Sequence[Sequence[int]]) -> PackedDocuments:
        """From documents one by one; what is packed already stays as it is."""
        if isinstance(documents, PackedDocuments):
            return documents
        lengths = np.fromiter(map(len, documents), np.int32, len(documents))
        total = int(lengths.sum(dtype=np.int64))
        return cls(np.fromiter(chain.from_iterable(documents), np.int32, total), lengths)

    @classmethod
    def from_bytes(cls, tokens: bytes, lengths: bytes, count: int | None = None) -> PackedDocuments:
        """From little-endian int32, as they travel: ``count`` documents, where that is known.

        Raises ValueError if these are no whole numbers of four bytes, if the lengths do not add up
        to the number of tokens, if a document is empty or a token negative, or for another count.
        """
        packed = cls(_numbers(tokens), _numbers(lengths))
        if count is not None and len(packed) != count:
            raise ValueError(f"{len(packed)} documents instead of {count}")
        if np.add.reduce(packed.lengths, dtype=np.int64) != len(packed.tokens):
            raise ValueError("the lengths of the documents do not add up to their tokens")
        if len(packed.lengths) and packed.lengths.min() < 1:
            raise ValueError("a document without a token")
        if len(packed.tokens) and packed.tokens.min() < 0:
            raise ValueError("a token below 0")
        return packed

    def to_bytes(self, begin: int = 0, end: int | None = None) -> tuple[bytes, bytes]:
        """Tokens and lengths of documents ``begin`` to ``end - 1``, as little-endian int32."""
        end = len(self.lengths) if end is None else end
        tokens, lengths, ends = self._as_bytes
        return tokens[ends[begin] : ends[end]], lengths[4 * begin : 4 * end]

    @cached_property
    def _as_bytes(self) -> tuple[bytes, bytes, list[int]]:
        """All tokens and lengths as they travel, and where each document begins in the first: once
        for all parts that are asked for, which may be one for each of many workers.
        """
        return (
            _bytes(self.tokens),
            _bytes(self.lengths),
            (4 * self.starts.astype(np.int64)).tolist(),
        )

    @cached_property
    def starts(self) -> Ints:
        """(num_documents + 1,) int32: where each document begins in ``tokens``, and their end."""
        starts = np.zeros(len(self.lengths) + 1, np.int32)
        np.add.accumulate(self.lengths, out=starts[1:])
        return starts

    def shortened(self, most: int) -> PackedDocuments:
        """With no more than the first ``most`` tokens of each document."""
        if not len(self.lengths) or self.lengths.max() <= most:
            return self
        place = np.arange(len(self.tokens)) - np.repeat(self.starts[:-1], self.lengths)
        return PackedDocuments(self.tokens[place < most], np.minimum(self.lengths, np.int32(most)))

    def cyclic(self, first: int, count: int) -> PackedDocuments:
        """``count`` documents from place ``first`` of their endless repetition, in order.

        Raises ValueError if there are none to repeat.
        """
        if not len(self):
            raise ValueError("there is no document to repeat")
        begin = first % len(self)
        if begin + count <= len(self):
            return self[begin : begin + count]
        parts = [self[begin:]]
        left = count - len(parts[0])
        parts += [self] * (left // len(self)) + [self[: left % len(self)]]
        return PackedDocuments.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[PackedDocuments]) -> PackedDocuments:
        """The documents of all parts, one part after the other."""
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    def chosen(self, places: NDArray[np.int64]) -> PackedDocuments:
        """The documents at these places, in their order."""
        return PackedDocuments.pack([self[place] for place in places.tolist()])

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> PackedDocuments: ...
    def __getitem__(self, index: int | slice) -> list[int] | PackedDocuments:
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            if step != 1:
                return PackedDocuments.pack([self[i] for i in range(begin, end, step)])
            end = max(begin, end)
            starts = self.starts[begin : end + 1]
            part = PackedDocuments(self.tokens[starts[0] : starts[-1]], self.lengths[begin:end])
            part.__dict__["starts"] = starts - starts[0]  # faster than to add up lengths again
            return part
        place = range(len(self))[index]
        document: list[int] = self.tokens[self.starts[place] : self.starts[place + 1]].tolist()
        return document

    def __iter__(self) -> Iterator[list[int]]:
        tokens, begin = self.tokens.tolist(), 0
        for length in self.lengths.tolist():
            yield tokens[begin : begin + length]
            begin += length


def _bytes(numbers: Ints) -> bytes:
    return numbers.astype(LITTLE_ENDIAN, copy=False).tobytes()


def _numbers(data: bytes) -> Ints:
    """Raises ValueError if the length is no multiple of four."""
    return np.frombuffer(data, LITTLE_ENDIAN).astype(np.int32, copy=False)
