"""Other models than the GPT, to show that an engine knows nothing about the GPT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from microgpt.model import (
    Forward,
    GPTConfig,
    add_up,
    attention,
    exp,
    gpt,
    linear,
    parameter_shapes,
    relu,
    select,
)
from microgpt.parameters import Shapes


class Variant(NamedTuple):
    forward: Forward
    shapes: Callable[[GPTConfig], Shapes]


def swish(x: Any) -> Any:
    return x / (1.0 + exp(-x))


def layer_norm(x: list[Any], gain: Any, shift: Any) -> list[Any]:
    mean = add_up(x) / len(x)
    variance = add_up((xi - mean) * (xi - mean) for xi in x) / len(x)
    scale = (variance + 1e-5) ** -0.5
    return [(xi - mean) * scale * g + b for xi, g, b in zip(x, gain, shift, strict=True)]


def swish_forward(
    params: Any, config: GPTConfig, token: Any, position: int, keys: Any, values: Any
) -> list[Any]:
    """Embedding, one attention over all heads at once, an MLP with swish, tied output weights."""
    x = [a + b for a, b in zip(select(params["wte"], token), params["wpe"][position], strict=True)]
    for layer in range(config.n_layer):
        prefix = f"layer{layer}."
        residual, x = x, layer_norm(x, params[prefix + "norm"][0], params[prefix + "norm"][1])
        keys[layer].append(linear(x, params[prefix + "k"]))
        values[layer].append(linear(x, params[prefix + "v"]))
        x = attention(linear(x, params[prefix + "q"]), keys[layer], values[layer])
        x = [a + b for a, b in zip(x, residual, strict=True)]
        hidden = [swish(h) for h in linear(x, params[prefix + "up"])]
        x = [a - b for a, b in zip(x, linear(hidden, params[prefix + "down"]), strict=True)]
    return linear(x, params["wte"])


def swish_shapes(config: GPTConfig) -> Shapes:
    width, shapes = config.n_embd, {"wte": (config.vocab_size, config.n_embd)}
    shapes["wpe"] = (config.block_size, width)
    for layer in range(config.n_layer):
        shapes[f"layer{layer}.norm"] = (2, width)
        for name in "qkv":
            shapes[f"layer{layer}.{name}"] = (width, width)
        shapes[f"layer{layer}.up"] = (3 * width, width)
        shapes[f"layer{layer}.down"] = (width, 3 * width)
    return shapes


def odd_forward(
    params: Any, config: GPTConfig, token: Any, position: int, keys: Any, values: Any
) -> list[Any]:
    """What no pass expects: parts of rows, rows used twice, squares of weights, unused results."""
    row = select(params["wte"], token)
    state = [h * 0.5 for h in keys[0][-1]] if keys[0] else row
    x = [relu(a * b + 0.25) + a for a, b in zip(row, params["wpe"][position], strict=True)]
    half = len(x) // 2 or 1
    twice = linear(linear(x, params["square"]), params["square"])
    part = add_up(w * xi for w, xi in zip(params["square"][0][:half], x[:half], strict=True))
    penalty = add_up(w * w for w in params["square"][-1])
    same = add_up(w * row[0] for w in params["square"][0])
    mixed = [a * part + b * penalty - same for a, b in zip(twice, state, strict=True)]
    keys[0].append(mixed)
    _ = exp(mixed[0] * 0.125)
    return [logit + row[0] for logit in linear([m**2 * 0.1 for m in mixed], params["wte"])]


def odd_shapes(config: GPTConfig) -> Shapes:
    width = config.n_embd
    return {
        "wte": (config.vocab_size, width),
        "wpe": (config.block_size, width),
        "square": (width, width),
        "unused": (1, 3),
    }


VARIANTS = {
    "gpt": Variant(gpt, parameter_shapes),
    "swish": Variant(swish_forward, swish_shapes),
    "odd": Variant(odd_forward, odd_shapes),
}
