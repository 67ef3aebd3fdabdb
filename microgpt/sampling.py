"""Inventing documents with a trained model. Needs neither NumPy nor an engine."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Container, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import TypeAlias

from microgpt.model import GPTConfig, Parameters, add_up, gpt, softmax
from microgpt.tokenizer import Tokenizer

#: ``extend(token, position)``: logits (vocab_size,) of the token that follows. The positions before
#: are those of the calls before; what was there from ``position`` on is forgotten.
Extend: TypeAlias = Callable[[int, int], list[float]]

#: Probabilities that ``Odds`` remembers: 32 MB of them.
REMEMBERED = 1 << 20
#: So many unwanted documents in a row, and ``wanted`` gives up.
PATIENCE = 10_000


class ExhaustedError(ValueError):
    """The model invents hardly anything that is still wanted."""


def plain(params: Parameters, config: GPTConfig) -> Extend:
    """The forward pass on plain floats."""
    keys: list[list[list[float]]] = [[] for _ in range(config.n_layer)]
    values: list[list[list[float]]] = [[] for _ in range(config.n_layer)]

    def extend(token: int, position: int) -> list[float]:
        for layer in (*keys, *values):
            del layer[position:]
        return gpt(params, config, token, position, keys, values)

    return extend


def chances(logits: Sequence[float], temperature: float) -> list[float]:
    """Probabilities (vocab_size,) of logits at a temperature.

    At temperature 0 the likeliest token has probability 1, of equals that with the lowest id.
    Raises ArithmeticError or ValueError for logits that are no numbers.
    """
    if temperature == 0.0:
        best = max(logits)
        if best == math.inf or any(map(math.isnan, logits)):
            raise ValueError("a logit is not a finite number")
        likeliest = logits.index(best)
        return [float(token == likeliest) for token in range(len(logits))]
    # l / temperature as microgpt.py's Value does it: times the reciprocal.
    factor = temperature**-1
    return softmax([logit * factor for logit in logits])


class Odds:
    """The probabilities of the next token: ``odds(tokens)``, where tokens begin with BOS.

    Raises ValueError for a temperature that is negative or no number. Calling raises
    ArithmeticError or ValueError if the model's numbers overflow.
    """

    def __init__(self, extend: Extend, vocab_size: int, temperature: float = 1.0) -> None:
        finite = temperature == 0.0 or 0.0 < temperature < math.inf > 1.0 / temperature
        if not finite:
            raise ValueError(f"the temperature must be 0 or a positive number, not {temperature}")
        self._extend = extend
        self._temperature = temperature
        self._tokens: list[int] = []  # the prefix that was read last
        self._logits: list[float] = []
        remember = lru_cache(maxsize=max(1, REMEMBERED // vocab_size))
        self._remembered = remember(self._compute)

    def __call__(self, tokens: Sequence[int]) -> list[float]:
        """Probabilities (vocab_size,) of the token after ``tokens``."""
        return self._remembered(tuple(tokens))

    def _compute(self, tokens: tuple[int, ...]) -> list[float]:
        shared = 0
        for known, token in zip(self._tokens, tokens, strict=False):
            if known != token:
                break
            shared += 1
        for position in range(min(shared, len(tokens) - 1), len(tokens)):
            del self._tokens[position:]
            self._logits = self._extend(tokens[position], position)
            self._tokens.append(tokens[position])
        return chances(self._logits, self._temperature)


def candidates(
    weights: Sequence[float], top_k: int | None, top_p: float | None
) -> tuple[Sequence[int], Sequence[float]]:
    """The tokens that may be drawn, in their own order, and their weights.

    First the ``top_k`` likeliest stay; of these the fewest likeliest that make up the share
    ``top_p`` of their weight (Holtzman et al., 2020). Of equals the smaller id is likelier.
    """
    everything = range(len(weights))
    if top_k is None and top_p is None:
        return everything, weights
    ranked = sorted(everything, key=lambda token: -weights[token])[:top_k]
    if top_p is not None and top_p < 1.0:
        bound, total, size = top_p * add_up(weights[i] for i in ranked), 0.0, 0
        while size < len(ranked) and total < bound:
            total += weights[ranked[size]]
            size += 1
        ranked = ranked[: max(1, size)]
    kept = sorted(ranked)
    return kept, [weights[token] for token in kept]


def generate(
    params: Parameters,
    config: GPTConfig,
    tokenizer: Tokenizer,
    rng: random.Random,
    *,
    num_samples: int | None = 20,
    temperature: float = 0.5,
    prompt: str = "",
    top_k: int | None = None,
    top_p: float | None = None,
    extend: Extend | None = None,
) -> Iterator[str]:
    """Yield ``num_samples`` documents that begin with ``prompt``, at most ``block_size`` long.

    Draws from ``rng`` exactly as microgpt.py does: one ``choices`` per letter and one for the end,
    also with ``top_k`` or ``top_p`` (see ``candidates``). ``num_samples`` None: without end.
    ``extend`` is another way to compute the same logits. At ``temperature`` 0 every letter is the
    likeliest (see ``chances``).
    Raises ValueError for a negative temperature, a negative count, a ``top_k`` or ``top_p`` that
    keeps nothing, or a prompt that is too long or holds unknown characters.
    """
    if num_samples is not None and num_samples < 0:
        raise ValueError(f"the number of samples cannot be negative, as {num_samples} is")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top-k must be at least 1, not {top_k}")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top-p must be above 0 and at most 1, not {top_p}")
    given = check_prompt(prompt, config, tokenizer)
    odds = Odds(extend or plain(params, config), config.vocab_size, temperature)

    def sample() -> str:
        tokens = [tokenizer.bos, *given]
        while len(tokens) <= config.block_size:
            chosen, weights = candidates(odds(tokens), top_k, top_p)
            token = rng.choices(chosen, weights=weights)[0]
            if token == tokenizer.bos:
                break
            tokens.append(token)
        return tokenizer.decode(tokens)

    return (sample() for _ in (count() if num_samples is None else range(num_samples)))


def check_prompt(prompt: str, config: GPTConfig, tokenizer: Tokenizer) -> list[int]:
    """The prompt's token ids. Raises ValueError if it is too long or holds unknown characters."""
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}"
        )
    given = tokenizer.encode_text(prompt)
    if len(given) >= config.block_size:
        raise ValueError(
            f"the prompt has {len(given)} characters; the model's context of {config.block_size} "
            f"leaves room for at most {config.block_size - 1}"
        )
    return given


def wanted(
    documents: Iterator[str], num_samples: int, known: Container[str], unique: bool
) -> Iterator[str]:
    """The first ``num_samples`` documents that are not ``known``; if ``unique``, each only once.

    Raises ExhaustedError after ``PATIENCE`` unwanted ones in a row.
    """
    seen: set[str] = set()
    found = refused = 0
    while found < num_samples:
        document = next(documents)
        if document in known or document in seen:
            refused += 1
            if refused == PATIENCE:
                raise ExhaustedError(
                    f"found {found:,} of {num_samples:,} samples, then none among {PATIENCE:,}: "
                    "ask for fewer, or for a higher temperature"
                )
            continue
        if unique:
            seen.add(document)
        found, refused = found + 1, 0
        yield document
