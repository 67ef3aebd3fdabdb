"""How a batch is cut for the workers that are there. Has no influence on the bits of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence

from microgpt.reduction import Shard

#: A shard should be at least this much work (seconds), if every worker still gets one.
WORTHWHILE = 0.01


def choose_shard_size(batch_size: int, workers: int, seconds_per_document: float | None) -> int:
    """A power of two: one shard for each worker, or smaller ones where documents take long.

    Small shards even out slow workers and long documents; large ones save messages.
    ``seconds_per_document`` is None as long as nobody knows: one document each then, as the first
    worker must not be given for minutes what those after it could share.
    """
    share = -(-batch_size // max(1, workers))
    if seconds_per_document is None:
        share = 1
    elif seconds_per_document > 0.0:
        share = min(share, max(1, int(WORTHWHILE / seconds_per_document)))
    return 1 << (share.bit_length() - 1)


def choose_verified(shards: Sequence[Shard], step: int, fraction: float) -> set[Shard]:
    """The shards of a step that two workers compute: each with probability ``fraction``."""
    if not fraction:
        return set()
    rng = random.Random(f"verify {step}")
    return {shard for shard in shards if rng.random() < fraction}
