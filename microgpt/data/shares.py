"""Which documents a replica draws from: all alike, or each from a part of its own.

    ""            every replica takes its share of the next documents in the order of the seed
    random        the documents are dealt out: each replica has a part of its own, all of one kind
    length        the first replica has the shortest documents, the last one the longest
    first-letter  the first replica has the first letters of the alphabet, and so on

The last two are what federated learning calls heterogeneous (non-i.i.d.) data. Parts are equally
large, to one document, and within a part documents are in the order of the seed. Pure: what a
replica is given follows from where its documents would begin in the endless sequence of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.data.packed import PackedDocuments
from microgpt.distribution import SHARD_BY as SHARD_BY


@dataclass(frozen=True)
class Shares:
    """``training``: all documents to train on. ``parts``: those of each replica; none: of all."""

    training: PackedDocuments
    parts: tuple[PackedDocuments, ...] = ()

    @classmethod
    def divided(cls, training: PackedDocuments, shard_by: str, replicas: int) -> Shares:
        """Deal the documents out to so many replicas, as one of ``SHARD_BY`` says.

        Raises ValueError if a replica would get none.
        """
        if not shard_by:
            return cls(training)
        if len(training) < replicas:
            raise ValueError(
                f"--shard-by {shard_by}: {len(training)} documents are too few for {replicas} "
                "replicas with documents of their own"
            )
        places = np.arange(len(training))
        if shard_by != "random":  # that they are: the seed has shuffled them
            places = places[np.argsort(_key(training, shard_by), kind="stable")]
        cuts = [part * len(training) // replicas for part in range(replicas + 1)]
        owned = (np.sort(places[cuts[r] : cuts[r + 1]]) for r in range(replicas))
        return cls(training, tuple(training.chosen(part) for part in owned))

    def documents(self, first: int, count: int, replica: int | None = None) -> PackedDocuments:
        """``count`` documents from place ``first`` of the endless sequence, for a replica.

        Of R replicas each has used up a share of 1 / R by then, and goes on there in its part,
        again and again. Without parts, or for nobody in particular, they are the very documents.
        """
        if replica is None or not self.parts:
            return self.training.cyclic(first, count)
        number = len(self.parts)
        return self.parts[replica % number].cyclic(first // number, count)

    def shortened(self, most: int) -> Shares:
        """With no more than the first ``most`` tokens of each document."""
        return Shares(
            self.training.shortened(most), tuple(part.shortened(most) for part in self.parts)
        )

    def together(
        self, first: int, parts: Sequence[tuple[int, int]], replicas: Sequence[int]
    ) -> PackedDocuments:
        """The documents of a round from place ``first``: one part after the other.

        ``parts``: where in the round the documents of each of the ``replicas`` begin, and how many
        they are.
        """
        if not self.parts:
            return self.training.cyclic(first, sum(count for _, count in parts))
        return PackedDocuments.joined(
            [
                self.documents(first + start, count, replica)
                for (start, count), replica in zip(parts, replicas, strict=True)
            ]
        )


def _key(documents: PackedDocuments, shard_by: str) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """What the documents are sorted by; all begin with BOS, and letters count as tokens do."""
    if shard_by == "length":
        return documents.lengths
    if shard_by == "first-letter":
        return documents.tokens[documents.starts[:-1] + 1]
    raise ValueError(f"there is no way to divide documents by {shard_by!r}")
