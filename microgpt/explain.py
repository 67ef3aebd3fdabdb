"""Looking over the model's shoulder: why these letters, and how a beginning might go on.

Needs neither NumPy nor an engine.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from microgpt.model import GPTConfig, Parameters, attention, attention_weights, gpt
from microgpt.sampling import Odds, chances
from microgpt.tokenizer import Tokenizer

#: One head's attention to each position so far; the first is BOS. They add up to 1.
Attention: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Letter:
    """A letter of a document as the model saw it coming.

    ``letter`` is None for the end of the document. ``probability`` is that at the temperature asked
    for, before any top-k or top-p; ``rank`` is 1 for the likeliest. ``attention[layer][head]`` goes
    to the positions before the letter: BOS and the letters up to it.
    """

    letter: str | None
    probability: float
    rank: int
    attention: tuple[tuple[Attention, ...], ...]

    def averaged(self) -> tuple[Attention, ...]:
        """Per layer the mean over its heads."""
        return tuple(
            tuple(math.fsum(column) / len(heads) for column in zip(*heads, strict=True))
            for heads in self.attention
        )


def explain(
    params: Parameters,
    config: GPTConfig,
    tokenizer: Tokenizer,
    document: str,
    temperature: float = 1.0,
) -> list[Letter]:
    """Every letter of a document, and its end if there was room for one more letter.

    Raises UnknownCharacterError, and ValueError for a document longer than the context.
    """
    letters = tokenizer.encode_text(document)
    if len(letters) > config.block_size:
        raise ValueError(f"{document!r} is longer than the model's context, {config.block_size}")
    tokens = [tokenizer.bos, *letters, tokenizer.bos][: config.block_size + 1]
    keys: list[list[list[float]]] = [[] for _ in range(config.n_layer)]
    values: list[list[list[float]]] = [[] for _ in range(config.n_layer)]
    explained = []
    for position, target in enumerate(tokens[1:]):
        watched: list[Attention] = []

        def watch(q: Any, k: Any, v: Any, watched: list[Attention] = watched) -> list[float]:
            watched.append(tuple(attention_weights(q, k)))
            return attention(q, k, v)

        logits = gpt(params, config, tokens[position], position, keys, values, watch)
        weights = chances(logits, temperature)
        ranked = weights if temperature else logits  # at temperature 0 all but one are equal
        rank = 1 + sum(other > ranked[target] for other in ranked)
        heads = range(0, len(watched), config.n_head)
        attended = tuple(tuple(watched[first : first + config.n_head]) for first in heads)
        letter = None if target == tokenizer.bos else tokenizer.decode([target])
        explained.append(Letter(letter, weights[target], rank, attended))
    return explained


def next_letters(
    odds: Odds, tokenizer: Tokenizer, beginning: Sequence[int]
) -> list[tuple[str | None, float]]:
    """What may follow, the likeliest first; None is the end. ``beginning``: ids without BOS."""
    weights = odds([tokenizer.bos, *beginning])
    ranked = sorted(range(len(weights)), key=lambda token: -weights[token])
    return [
        (None if token == tokenizer.bos else tokenizer.decode([token]), weights[token])
        for token in ranked
    ]


def completions(
    odds: Odds,
    tokenizer: Tokenizer,
    block_size: int,
    beginning: Sequence[int],
    count: int = 5,
    effort: int = 200,
) -> list[tuple[str, float]]:
    """The likeliest documents with this beginning, and their probabilities given it.

    Best first, exactly: no document is likelier than one listed before it. Ends early, with fewer
    than ``count``, when ``effort`` beginnings have been looked at.
    """
    waiting = [(0.0, tuple(beginning), False)]  # surprise in nats, letters, whether it has ended
    found: list[tuple[str, float]] = []
    while waiting and len(found) < count:
        surprise, letters, ended = heapq.heappop(waiting)
        if ended or len(letters) >= block_size:
            found.append((tokenizer.decode(letters), math.exp(-surprise)))
            continue
        if effort == 0:
            break
        effort -= 1
        for token, probability in enumerate(odds([tokenizer.bos, *letters])):
            if probability > 0.0:
                more = () if token == tokenizer.bos else (token,)
                entry = (surprise - math.log(probability), (*letters, *more), not more)
                heapq.heappush(waiting, entry)
    return found
