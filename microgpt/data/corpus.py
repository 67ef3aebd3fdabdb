"""Which documents make up a batch: the corpus in the order of the seed, and what is held out.

Pure: whoever has the same documents and the same seed gets the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count

from microgpt.config import TrainingConfig, checked_fraction
from microgpt.data.packed import PackedDocuments
from microgpt.data.shares import Shares
from microgpt.tokenizer import Tokenizer


class Corpus:
    """The documents of a run in the order of the seed, as token ids (BOS at both ends).

    The last of them are held out as ``validation``; batches are made of ``training``, the
    ``num_training`` before those. The alphabet is that of all; ``longest``: tokens of the longest.
    ``progress(done, total)`` is called all the while. Raises ValueError if none is left to train
    on.
    """

    def __init__(
        self,
        documents: Sequence[str],
        seed: int,
        validation_fraction: float = 0.0,
        progress: Callable[[float, float], None] = lambda done, total: None,
    ) -> None:
        passes = _told(2 * len(documents), progress)  # each is gone through twice
        self.tokenizer = Tokenizer.from_documents(passes(documents))
        self.rng = random.Random(seed)
        shuffled = list(documents)
        self.rng.shuffle(shuffled)
        encoded = [self.tokenizer.encode(document) for document in passes(shuffled)]
        self.num_training = len(encoded) - num_held_out(len(encoded), validation_fraction)
        self.longest = max(map(len, encoded))
        self.training = PackedDocuments.pack(encoded[: self.num_training])
        self.validation = PackedDocuments.pack(encoded[self.num_training :])
        self.shares = Shares(self.training)

    def __len__(self) -> int:
        return self.num_training + len(self.validation)

    def divide(self, config: TrainingConfig) -> Corpus:
        """Give each replica the documents of its own that the settings want; returns itself.

        Raises ValueError if there are too few.
        """
        shard_by = config.distribution.shard_by
        self.shares = Shares.divided(self.training, shard_by, config.num_replicas)
        return self

    def documents(self, first: int, count: int, replica: int | None = None) -> PackedDocuments:
        """``count`` documents from place ``first`` of their endless repetition, in order.

        For a ``replica`` with documents of its own: of those; see ``microgpt.data.shares``.
        """
        return self.shares.documents(first, count, replica)

    def batch(self, step: int, batch_size: int) -> PackedDocuments:
        """Documents of step ``step`` (from 0), in the order in which they are summed."""
        return self.documents(step * batch_size, batch_size)


def _told(
    total: int, progress: Callable[[float, float], None]
) -> Callable[[Iterable[str]], Iterator[str]]:
    """What passes documents on and tells how many of ``total`` have been, whoever takes them."""
    done = count()

    def passes(documents: Iterable[str]) -> Iterator[str]:
        for document in documents:
            progress(next(done), total)
            yield document

    return passes


def num_held_out(count: int, fraction: float) -> int:
    """How many of ``count`` documents are held out: the fraction of them rounded down, at least 1.

    The fraction counts as it is written: 0.3 of 10 documents are 3, although the binary64 next to
    0.3 lies below it. None for a fraction of 0. Raises ValueError if nothing would be left.
    """
    fraction = checked_fraction(fraction)
    if fraction == 0.0:
        return 0
    held_out = max(1, int(count * Fraction(repr(fraction))))
    if held_out >= count:
        raise ValueError(
            "there is one document: holding it out for validation leaves none to train on"
        )
    return held_out
