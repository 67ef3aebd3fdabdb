"""The GPT, written once for every kind of number.

The functions here run on ``Value`` (training by the scalar engine), on the tracers of the tape
engine and on plain floats (sampling). They follow Andrej Karpathy's ``microgpt.py`` operation by
operation, because the order in which operations are created decides the bits of the gradient.
That is also why division is spelled ``a * b**-1`` and why sums start from 0.

This module must not import an engine, a socket or NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

#: A float, a Value or a Tracer: whatever has ``+ * **`` and ``exp, log, relu``.
Scalar: TypeAlias = Any
#: A matrix as rows of scalars.
Matrix: TypeAlias = Sequence[Sequence[Scalar]]
#: Parameter matrices by name.
Parameters: TypeAlias = Mapping[str, Matrix]
#: ``attend(q, keys, values)``; see ``attention``.
Attend: TypeAlias = Callable[..., list[Scalar]]
#: ``watch(part, state)``; see ``gpt``.
Watch: TypeAlias = Callable[[str, Sequence[Scalar]], None]
#: ``forward(params, config, token, position, keys, values) -> logits``; see ``gpt``.
Forward: TypeAlias = Callable[..., list[Scalar]]


@dataclass(frozen=True)
class GPTConfig:
    """Shape of the network. Raises ValueError for a shape that cannot be.

    ``vocab_size`` counts the characters of the data and the BOS token.
    """

    vocab_size: int
    n_layer: int = 1
    n_embd: int = 16
    n_head: int = 4
    block_size: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            number = getattr(self, field.name)
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(
                    f"{field.name} must be a whole number of at least 1, not {number!r}"
                )
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head}): "
                "every head gets an equal part of the width"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    def to_dict(self) -> dict[str, int]:
        """The fields as a plain map, for records and messages."""
        return asdict(self)


def parameter_shapes(config: GPTConfig) -> dict[str, tuple[int, int]]:
    """``{name: (rows, columns)}`` in canonical order: the order of drawing, storing and hashing."""
    width, hidden = config.n_embd, 4 * config.n_embd
    shapes = {
        "wte": (config.vocab_size, width),
        "wpe": (config.block_size, width),
        "lm_head": (config.vocab_size, width),
    }
    for layer in range(config.n_layer):
        for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
            shapes[f"layer{layer}.{name}"] = (width, width)
        shapes[f"layer{layer}.mlp_fc1"] = (hidden, width)
        shapes[f"layer{layer}.mlp_fc2"] = (width, hidden)
    return shapes


def exp(x: Scalar) -> Scalar:
    """e to the power ``x``."""
    return math.exp(x) if isinstance(x, float) else x.exp()


def log(x: Scalar) -> Scalar:
    """Natural logarithm of ``x``."""
    return math.log(x) if isinstance(x, float) else x.log()


def relu(x: Scalar) -> Scalar:
    """``x`` where it is positive, else 0."""
    if isinstance(x, float):
        return x if x > 0.0 else 0.0
    return x.relu()


def largest(xs: Sequence[Scalar]) -> Scalar:
    """The largest of ``xs`` as a constant: no gradient flows through it."""
    return max(xs) if isinstance(xs[0], float) else type(xs[0]).largest(xs)


def select(items: Sequence[Any], index: Any) -> Any:
    """``items[index]``, also for an index that is only known when a tape is replayed."""
    return items[index] if isinstance(index, int) else index.select(items)


def add_up(terms: Iterable[Scalar]) -> Scalar:
    """``0 + terms[0] + terms[1] + ...``, from the left.

    Not the built-in ``sum``, which from Python 3.12 on rounds sums of floats differently.
    """
    total: Scalar = 0.0
    for term in terms:
        total = total + term
    return total


def dot_product(a: Sequence[Scalar], b: Sequence[Scalar]) -> Scalar:
    """``a[0] * b[0] + a[1] * b[1] + ...``, from the left; both of the same length."""
    return add_up(ai * bi for ai, bi in zip(a, b, strict=True))


def linear(x: Sequence[Scalar], w: Matrix) -> list[Scalar]:
    """Matrix times vector: ``w`` (rows, columns) and ``x`` (columns,) give (rows,)."""
    return each_row(dot_product, w, x)


def each_row(
    function: Callable[[Sequence[Scalar], Sequence[Scalar]], Scalar], w: Matrix, x: Sequence[Scalar]
) -> list[Scalar]:
    """``[function(row, x) for row in w]``, where results depend on these arguments alone.

    So a recorder may look at what one row does, and write down the same for all.
    """
    repeat = getattr(x[0], "each_row", None) if len(x) else None
    return [function(row, x) for row in w] if repeat is None else repeat(function, w, x)


def softmax(logits: Sequence[Scalar]) -> list[Scalar]:
    """Probabilities of the same length, shifted by the largest logit so that exp stays small."""
    maximum = largest(logits)
    exps = [exp(logit - maximum) for logit in logits]
    total = add_up(exps)
    return [e * total**-1 for e in exps]


def rmsnorm(x: Sequence[Scalar]) -> list[Scalar]:
    """``x`` scaled to a root mean square of one (Zhang and Sennrich, 2019), without gain."""
    mean_square = add_up(xi * xi for xi in x) * len(x) ** -1
    scale = (mean_square + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def attention_weights(q: Sequence[Scalar], keys: Sequence[Sequence[Scalar]]) -> list[Scalar]:
    """How much one head looks at each position: query (d,) and keys (t, d) give (t,), sum 1."""
    head_dim = len(q)
    logits = [
        add_up(q[j] * key[j] for j in range(head_dim)) * (head_dim**0.5) ** -1 for key in keys
    ]
    return softmax(logits)


def attention(
    q: Sequence[Scalar], keys: Sequence[Sequence[Scalar]], values: Sequence[Sequence[Scalar]]
) -> list[Scalar]:
    """One head: query (d,), keys and values (t, d) up to this position; gives (d,)."""
    weights = attention_weights(q, keys)
    return [add_up(weights[t] * values[t][j] for t in range(len(values))) for j in range(len(q))]


def ignore(part: str, state: Sequence[Scalar]) -> None:
    """Watches nothing."""


def gpt(
    params: Parameters,
    config: GPTConfig,
    token: Any,
    position: int,
    keys: list[list[list[Scalar]]],
    values: list[list[list[Scalar]]],
    attend: Attend = attention,
    watch: Watch = ignore,
) -> list[Scalar]:
    """Logits (vocab_size,) of the token after ``token`` at ``position``.

    ``keys`` and ``values`` hold, per layer, what earlier positions left; this call appends its own.
    ``attend`` is called for every head of every layer in turn; another one may watch what happens.
    ``watch`` is shown the hidden state (n_embd,) as each part leaves it: "embedding", before it is
    normalised, then for each layer "layer0.attention" and "layer0.mlp", what they add included.
    """
    x = [t + p for t, p in zip(select(params["wte"], token), params["wpe"][position], strict=True)]
    watch("embedding", x)
    x = rmsnorm(x)
    for layer in range(config.n_layer):
        prefix = f"layer{layer}."
        residual = x
        x = rmsnorm(x)
        q = linear(x, params[prefix + "attn_wq"])
        keys[layer].append(linear(x, params[prefix + "attn_wk"]))
        values[layer].append(linear(x, params[prefix + "attn_wv"]))
        heads: list[Scalar] = []
        for start in range(0, config.n_embd, config.head_dim):
            head = slice(start, start + config.head_dim)
            heads += attend(
                q[head], [k[head] for k in keys[layer]], [v[head] for v in values[layer]]
            )
        x = linear(heads, params[prefix + "attn_wo"])
        x = [a + b for a, b in zip(x, residual, strict=True)]
        watch(prefix + "attention", x)
        residual = x
        x = rmsnorm(x)
        x = linear(x, params[prefix + "mlp_fc1"])
        x = [relu(xi) for xi in x]
        x = linear(x, params[prefix + "mlp_fc2"])
        x = [a + b for a, b in zip(x, residual, strict=True)]
        watch(prefix + "mlp", x)
    return linear(x, params["lm_head"])


def num_positions(config: GPTConfig, tokens: Sequence[Any]) -> int:
    """How many next-token predictions one document gives. Raises ValueError below two tokens."""
    if len(tokens) < 2:
        raise ValueError(f"a document needs at least two tokens, this one has {len(tokens)}")
    return min(config.block_size, len(tokens) - 1)


def position_losses(
    params: Parameters, config: GPTConfig, tokens: Sequence[Any], forward: Forward = gpt
) -> list[Scalar]:
    """``-log p(next token)`` in nats, one per position."""
    keys: list[list[list[Scalar]]] = [[] for _ in range(config.n_layer)]
    values: list[list[list[Scalar]]] = [[] for _ in range(config.n_layer)]
    losses = []
    for position in range(num_positions(config, tokens)):
        logits = forward(params, config, tokens[position], position, keys, values)
        probability = select(softmax(logits), tokens[position + 1])
        losses.append(log(probability) * -1.0)
    return losses


def document_loss(
    params: Parameters, config: GPTConfig, tokens: Sequence[Any], forward: Forward = gpt
) -> Scalar:
    """Mean loss of one document in nats per token: the root of every gradient."""
    losses = position_losses(params, config, tokens, forward)
    return (1 / len(losses)) * add_up(losses)
