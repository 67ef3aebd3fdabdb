"""How a batch is cut for the workers that are there. Has no influence on the bits of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence

from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import Shard
from microgpt.parameters import num_params
from microgpt.protocol.messages import MAX_DOCUMENTS, MAX_MESSAGE_BYTES
from microgpt.training import count_tokens

#: A shard should be at least this much work (seconds), if every worker still gets one.
WORTHWHILE = 0.01
#: Seconds for one weight at one position as long as nothing has been measured: the default engine
#: takes a tenth of that, the slow one ten times as much.
ASSUMED = 1e-7
#: A batch is cut into no more shards than the one, or than the other for each worker: each has a
#: gradient that must be kept until the step is over. The third is a limit to what users may want.
FEW_SHARDS, SHARDS_PER_WORKER, MOST_SHARDS = 64, 8, 1 << 14
#: Documents in one shard: their losses must fit into an answer beside the gradient.
LARGEST = 1 << 16
MESSAGE_REST = 1 << 16  # bytes of a message that are neither weights nor documents
TOKEN_BYTES = DOCUMENT_BYTES = 5  # at most, for a token and around the tokens of a document


def choose_shard_size(
    batch_size: int, workers: int, seconds_per_document: float, largest: int = LARGEST
) -> int:
    """A power of two: one shard for each worker, or smaller ones where documents take long.

    Small shards even out slow workers and long documents; large ones save messages and memory.
    ``largest`` is itself a power of two.
    """
    share = -(-batch_size // max(1, workers))
    if seconds_per_document * share > WORTHWHILE:
        share = max(1, int(WORTHWHILE / seconds_per_document))
    size = 1 << (share.bit_length() - 1)
    while size * max(FEW_SHARDS, SHARDS_PER_WORKER * workers) < batch_size:
        size *= 2
    return min(size, largest)


def assume_seconds(config: TrainingConfig, documents: Sequence[Sequence[int]]) -> float:
    """What a document may take, as long as nobody knows."""
    positions = count_tokens(config, documents) / len(documents)
    return ASSUMED * num_params(parameter_shapes(config.model)) * positions


def largest_shard(config: TrainingConfig, longest: int) -> int:
    """The most documents, a power of two, that fit into a message of work whatever they are.

    ``longest``: tokens of the longest document. 0 if not even one fits.
    """
    tokens = min(longest, config.model.block_size + 1)  # more are not looked at
    document = DOCUMENT_BYTES + TOKEN_BYTES * tokens
    count = min((MAX_MESSAGE_BYTES - MESSAGE_REST) // document, LARGEST)
    return 1 << (count.bit_length() - 1) if count and tokens <= MAX_DOCUMENTS else 0


def unsendable(config: TrainingConfig, shard_size: int | None, longest: int) -> str:
    """Why no worker could be told what to do, or its answer never be taken in; "" if it can.

    ``shard_size`` None: chosen by us. ``longest``: tokens of the longest document.
    """
    parameters, size = num_params(parameter_shapes(config.model)), config.batch_size
    limit = f"the {MAX_MESSAGE_BYTES >> 20} MiB of a message"
    if 8 * parameters + MESSAGE_REST > MAX_MESSAGE_BYTES:
        return f"a model of {parameters:,} parameters exceeds {limit}: choose a smaller one"
    largest = largest_shard(config, longest)
    if not largest:
        return f"a document of {longest:,} tokens exceeds {limit}: a smaller --block-size helps"
    if shard_size is None:
        return ""
    if min(shard_size, size) > largest:
        return f"--shard-size {shard_size} is too large: at most {largest}, or auto"
    if -(-size // shard_size) > MOST_SHARDS:
        return (
            f"--shard-size {shard_size} cuts a batch of {size:,} documents into more than "
            f"{MOST_SHARDS:,} shards: choose a larger one, or auto"
        )
    return ""


def choose_verified(shards: Sequence[Shard], step: int, fraction: float) -> set[Shard]:
    """The shards of a step that two workers compute: each with probability ``fraction``."""
    if not fraction:
        return set()
    rng = random.Random(f"verify {step}")
    return {shard for shard in shards if rng.random() < fraction}
