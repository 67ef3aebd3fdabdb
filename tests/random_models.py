"""Models that do anything with anything: what an engine may meet, and no person would write."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from microgpt.model import (
    Forward,
    GPTConfig,
    add_up,
    dot_product,
    exp,
    largest,
    linear,
    relu,
    select,
    softmax,
)
from microgpt.parameters import Shapes

CONFIG = GPTConfig(vocab_size=3, n_embd=3, n_head=1, block_size=3)
SHAPES: Shapes = {"wte": (3, 3), "a": (2, 3), "b": (3, 3)}
NUMBERS = (0.0, -1.0, 0.5, 2.0, 0.1)


def random_forward(seed: int) -> Forward:
    """A forward function for ``CONFIG`` and ``SHAPES``, always the same for the same seed."""
    alike = seed % 3 > 0  # or another program at each position

    def forward(
        params: Any, config: GPTConfig, token: Any, position: int, keys: Any, values: Any
    ) -> list[Any]:
        rng = random.Random(1000 * seed + (0 if alike else position))
        pool = _Pool(rng, params, token, keys[0])
        for _ in range(rng.randint(3, 25)):
            rng.choice(OPERATIONS)(pool)
        keys[0].append([pool.node() * 0.25 for _ in range(3)])
        return [pool.node() * rng.choice((0.05, 0.05, 1.0)) for _ in range(config.vocab_size)]

    return forward


class _Pool:
    """Numbers, and lists of three, that have been computed so far."""

    def __init__(self, rng: random.Random, params: Any, token: Any, earlier: Any) -> None:
        self.rng, self.params, self.token = rng, params, token
        self.lists = [select(params["wte"], token), params["a"][1], params["b"][0], *earlier[-1:]]
        self.nodes = [*params["a"][0], *params["b"][rng.randrange(3)]]
        for each in self.lists:
            self.nodes += each

    def node(self) -> Any:
        return self.rng.choice(self.nodes)

    def some(self, least: int = 1) -> list[Any]:
        return [self.node() for _ in range(self.rng.randint(least, 4))]

    def number(self) -> Any:
        """A node, or now and then a constant."""
        return self.rng.choice(NUMBERS) if self.rng.random() < 0.15 else self.node()

    def add(self, *nodes: Any) -> None:
        self.nodes += nodes


def _product(pool: _Pool) -> None:
    result = linear(pool.rng.choice(pool.lists), pool.params[pool.rng.choice(list(SHAPES))])
    pool.add(*result)
    if len(result) == 3:
        pool.lists.append(result)


def _list_of_choices(pool: _Pool) -> None:
    """Among parameters, mostly: those that a product with it may use as well."""
    weights = [weight for row in pool.params["b"] for weight in row]
    pool.lists.append(
        [
            select([pool.rng.choice((*weights, pool.node())) for _ in range(3)], pool.token)
            for _ in range(3)
        ]
    )


def _softmax(pool: _Pool) -> None:
    weights = softmax([pool.node() * 0.1 for _ in range(3)])
    pool.lists.append(weights)
    for _ in range(pool.rng.randrange(3)):
        pool.add(select(weights, pool.token))
    if pool.rng.random() < 0.3:
        pool.add(weights[0])


def _shifted_by_largest(pool: _Pool) -> None:
    shift = largest(pool.some()) * -1.0
    pool.add(shift + pool.node(), pool.node() + shift)


OPERATIONS: tuple[Callable[[_Pool], None], ...] = (
    lambda pool: pool.add(pool.node() + pool.number()),
    lambda pool: pool.add(pool.node() * pool.number()),
    lambda pool: pool.add(exp(pool.node() * 0.1)),
    lambda pool: pool.add(relu(pool.node())),
    lambda pool: pool.add((exp(pool.node() * 0.1) + 0.5) ** pool.rng.choice((-1, -0.5, 2))),
    _shifted_by_largest,
    _softmax,
    lambda pool: pool.add(add_up(node * pool.number() for node in pool.some())),
    lambda pool: pool.add(add_up(pool.some())),
    _product,
    lambda pool: pool.add(select([pool.node() for _ in range(3)], pool.token)),
    lambda pool: pool.lists.append([pool.node() for _ in range(3)]),
    _list_of_choices,
    lambda pool: pool.add(dot_product(pool.params["a"][0], [0.1, 0.7, 0.3])),
    lambda pool: pool.add(dot_product(pool.rng.choice(pool.lists), pool.params["b"][1][::-1])),
)
