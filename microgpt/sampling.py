"""Inventing documents with a trained model. Needs neither NumPy nor an engine."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from microgpt.model import GPTConfig, Parameters, gpt, softmax
from microgpt.tokenizer import Tokenizer


def generate(
    params: Parameters,
    config: GPTConfig,
    tokenizer: Tokenizer,
    rng: random.Random,
    *,
    num_samples: int = 20,
    temperature: float = 0.5,
    prompt: str = "",
) -> Iterator[str]:
    """Yield ``num_samples`` documents that begin with ``prompt``, at most ``block_size`` long.

    Draws from ``rng`` exactly as microgpt.py does: one ``choices`` per letter and one for the end.
    Raises ValueError for a temperature that is not positive, a negative count, or a prompt that is
    too long or holds unknown characters.
    """
    if not 0.0 < temperature < math.inf or not 1.0 / temperature < math.inf:
        raise ValueError(f"the temperature must be a positive number, not {temperature}")
    if num_samples < 0:
        raise ValueError(f"the number of samples cannot be negative, as {num_samples} is")
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
    return (_sample(params, config, tokenizer, rng, temperature, given) for _ in range(num_samples))


def _sample(
    params: Parameters,
    config: GPTConfig,
    tokenizer: Tokenizer,
    rng: random.Random,
    temperature: float,
    given: list[int],
) -> str:
    keys: list[list[list[float]]] = [[] for _ in range(config.n_layer)]
    values: list[list[list[float]]] = [[] for _ in range(config.n_layer)]
    token, document = tokenizer.bos, []
    for position in range(config.block_size):
        logits = gpt(params, config, token, position, keys, values)
        if position < len(given):
            token = given[position]
        else:
            # l / temperature as microgpt.py's Value does it: times the reciprocal.
            weights = softmax([logit * temperature**-1 for logit in logits])
            token = rng.choices(range(config.vocab_size), weights=weights)[0]
            if token == tokenizer.bos:
                break
        document.append(token)
    return tokenizer.decode(document)
