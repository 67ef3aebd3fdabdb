"""How a batch is cut for the workers that are there. Has no influence on the bits of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from typing import TypeAlias

from coordinator.core.sizes import LARGEST, MESSAGE_REST
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import Shard, shards
from microgpt.parameters import num_params
from microgpt.protocol.messages import MAX_DOCUMENTS, MAX_MESSAGE_BYTES
from microgpt.training import count_tokens

#: Seconds for one weight at one position as long as nothing has been measured: the default engine
#: takes a tenth of that, the slow one ten times as much.
ASSUMED = 1e-7
ASSUMED_OVERHEAD = 3e-4  # seconds that a shard takes beside its documents, likewise
#: No shard should take longer (seconds), or than so many times what it takes beside its documents:
#: it is lost with its worker, and a slow worker is found out late.
LONGEST, LONGEST_SHARE = 1.0, 20.0
#: One cut is better than another with fewer shards if it saves more than this share of the time.
WORTHWHILE = 0.03
#: A batch is cut into no more shards than the one, or than the other for each worker: each has a
#: gradient that must be kept until the step is over. The third is a limit to what users may want.
FEW_SHARDS, SHARDS_PER_WORKER, MOST_SHARDS = 64, 8, 1 << 14
#: How far a worker's seconds for a document may change before the batch is cut in another way.
STEADY = 1.25
#: Seconds for a document that are believed.
LEAST_PACE, MOST_PACE = 1e-9, 1e4
#: Shards one after the other: documents in each, and how many are alike.
Runs: TypeAlias = list[tuple[int, int]]
TOKEN_BYTES = DOCUMENT_BYTES = 5  # at most, for a token and around the tokens of a document


def choose_cut(
    count: int, paces: Sequence[float], overhead: float, largest: int = LARGEST
) -> list[Shard]:
    """Cut ``count`` documents for workers that take ``paces`` (seconds for a document) each.

    ``overhead``: seconds that a shard takes beside its documents. ``largest``: documents in one, a
    power of two. Each worker gets one shard where that is about as good as any other cut, else
    there are smaller ones at the end: whoever is done early takes more of those.
    """
    paces = [min(max(pace, LEAST_PACE), MOST_PACE) for pace in paces or [1.0]]
    whole = 1 << max(0, (-(-count // len(paces)) - 1).bit_length())
    longest = max(LONGEST, LONGEST_SHARE * overhead)
    while whole > 1 and (whole > largest or whole * min(paces) > longest):
        whole //= 2
    most = max(FEW_SHARDS, SHARDS_PER_WORKER * len(paces))
    while -(-count // whole) > most and whole < largest:
        whole *= 2
    if -(-count // whole) > most:
        return shards(count, whole)  # as few as messages can hold
    cuts = [
        _runs(count, size, kept, rest)
        for size in _halves(whole)
        for rest in _halves(size)
        for kept in _kept(-(-count // size), len(paces))
        if min(len(paces), count) <= kept + -(-max(0, count - kept * size) // rest) <= most
    ] or [_runs(count, whole, count, whole)]
    times = [_seconds_of(runs, paces, overhead) for runs in cuts]
    enough = (1 + WORTHWHILE) * min(times)
    good = (runs for runs, seconds in zip(cuts, times, strict=True) if seconds <= enough)
    return _laid_out(min(good, key=lambda runs: sum(number for _, number in runs)))


def _halves(size: int) -> list[int]:
    """The powers of two from ``size`` down to 1."""
    return [1 << level for level in range(size.bit_length() - 1, -1, -1)]


def _kept(number: int, workers: int) -> set[int]:
    """How many of so many shards may stay whole, while those behind are cut further."""
    return {number, number - number % workers, max(0, number - workers), number - 1}


def _runs(count: int, size: int, kept: int, rest: int) -> Runs:
    """``kept`` shards of ``size``, and the documents behind them in smaller ones of ``rest``."""
    whole = min(count, kept * size)
    runs = []
    for documents, each in ((whole, size), (count - whole, rest)):
        number, last = divmod(documents, each)
        runs += [(each, number)] * (number > 0) + [(last, 1)] * (last > 0)
    return runs


def _laid_out(runs: Runs) -> list[Shard]:
    """The shards one after the other."""
    counts = [each for each, number in runs for _ in range(number)]
    return [Shard(*place) for place in zip(accumulate([0, *counts]), counts, strict=False)]


def seconds_of(cut: Sequence[Shard], paces: Sequence[float], overhead: float) -> float:
    """How long a cut takes if each free worker takes the next shard, in the order of the cut."""
    return _seconds_of([(shard.count, 1) for shard in cut], paces, overhead)


def _seconds_of(runs: Runs, paces: Sequence[float], overhead: float) -> float:
    if paces.count(paces[0]) == len(paces):
        return _seconds_of_alike(runs, len(paces), paces[0], overhead)
    free = [(0.0, place) for place in range(len(paces))]
    last = 0.0
    for each, number in runs:
        for _ in range(number):
            since, place = heappop(free)
            done = since + overhead + each * paces[place]
            last = max(last, done)
            heappush(free, (done, place))
    return last


def _seconds_of_alike(runs: Runs, workers: int, pace: float, overhead: float) -> float:
    """The same of workers with one pace, of whom there may be thousands: those who become free at
    the same time are looked at together.
    """
    free = [(0.0, workers)]  # times, and how many are free from then on
    last = 0.0
    for each, number in runs:
        left = number
        while left:
            since, ready = heappop(free)
            taken = min(left, ready)
            left -= taken
            if taken < ready:
                heappush(free, (since, ready - taken))
            done = since + overhead + each * pace
            last = max(last, done)
            heappush(free, (done, taken))
    return last


@dataclass(frozen=True)
class Cut:
    """How a round of ``count`` documents was cut for workers of these ``paces``."""

    count: int
    paces: tuple[float, ...]
    shards: list[Shard]

    def suits(self, count: int, paces: Sequence[float]) -> bool:
        """Whether it is as good for these as a new one would be."""
        if count != self.count or len(paces) != len(self.paces):
            return False
        both = zip(paces, self.paces, strict=True)
        return all(a <= STEADY * b and b <= STEADY * a for a, b in both)


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

    ``shard_size`` None: chosen by us. ``longest``: tokens of the longest document. What
    replicas do is looked at elsewhere: see ``sizes``.
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


def choose_verified(cut: Sequence[Shard], step: int, fraction: float) -> set[Shard]:
    """The shards of a step that two workers compute: each with probability ``fraction``."""
    if not fraction:
        return set()
    rng = random.Random(f"verify {step}")
    return {shard for shard in cut if rng.random() < fraction}
