"""A second, independent account of the arithmetic contract, for tests to compare with.

Written from the contract and the text of Karpathy's microgpt.py, not from ``microgpt/``: a tape of
parallel lists instead of a graph of objects, and nothing of the project is imported. Numbers are
positions on the tape; backward is a scan of the tape from its end. Equal bits are the test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Matrix = list[list[int]]


@dataclass
class Tape:
    """``data[i]`` is the number made by entry ``i``; ``edges[i]`` its ``(operand, derivative)``."""

    data: list[float] = field(default_factory=list)
    edges: list[list[tuple[int, float]]] = field(default_factory=list)

    def put(self, number: float, *edges: tuple[int, float]) -> int:
        self.data.append(float(number))
        self.edges.append(list(edges))
        return len(self.data) - 1

    def add(self, a: int, b: int) -> int:
        return self.put(self.data[a] + self.data[b], (a, 1.0), (b, 1.0))

    def mul(self, a: int, b: int) -> int:
        return self.put(self.data[a] * self.data[b], (a, self.data[b]), (b, self.data[a]))

    def power(self, a: int, exponent: float) -> int:
        x = self.data[a]
        return self.put(x**exponent, (a, exponent * x ** (exponent - 1)))

    def exp(self, a: int) -> int:
        y = math.exp(self.data[a])
        return self.put(y, (a, y))

    def log(self, a: int) -> int:
        return self.put(math.log(self.data[a]), (a, 1 / self.data[a]))

    def relu(self, a: int) -> int:
        x = self.data[a]
        return self.put(max(0.0, x), (a, float(x > 0)))

    def sum(self, terms: Iterable[int]) -> int:
        total = self.put(0.0)
        for term in terms:
            total = self.add(term, total)
        return total

    def divide(self, a: int, b: int) -> int:
        return self.mul(a, self.power(b, -1))

    def divide_by_number(self, a: int, number: float) -> int:
        return self.mul(a, self.put(number**-1))

    def subtract_number(self, a: int, number: float) -> int:
        return self.add(a, self.put(-number))

    def gradients(self, root: int) -> list[float]:
        grads = [0.0] * len(self.data)
        grads[root] = 1.0
        for entry in range(root, -1, -1):
            for operand, derivative in self.edges[entry]:
                grads[operand] += derivative * grads[entry]
        return grads


@dataclass(frozen=True)
class Shape:
    """The network's sizes under the names that microgpt.py gives them."""

    vocab_size: int
    n_layer: int
    n_embd: int
    n_head: int
    block_size: int


def matrix_sizes(shape: Shape) -> list[tuple[str, int, int]]:
    """Name, rows and columns of every parameter matrix, in the order in which they are drawn."""
    n = shape.n_embd
    sizes = [
        ("wte", shape.vocab_size, n),
        ("wpe", shape.block_size, n),
        ("lm_head", shape.vocab_size, n),
    ]
    for i in range(shape.n_layer):
        sizes += [(f"layer{i}.attn_w{letter}", n, n) for letter in "qkvo"]
        sizes += [(f"layer{i}.mlp_fc1", 4 * n, n), (f"layer{i}.mlp_fc2", n, 4 * n)]
    return sizes


class Network:
    """The GPT of microgpt.py over one tape, with parameters from a flat list."""

    def __init__(self, shape: Shape, flat: Sequence[float]) -> None:
        self.shape = shape
        self.tape = Tape()
        self.parameters = [self.tape.put(number) for number in flat]
        rest = iter(self.parameters)
        self.weights: Mapping[str, Matrix] = {
            name: [[next(rest) for _ in range(columns)] for _ in range(rows)]
            for name, rows, columns in matrix_sizes(shape)
        }
        self.forget()

    def forget(self) -> None:
        """Begin another document: no keys and values of earlier positions."""
        self.keys: list[Matrix] = [[] for _ in range(self.shape.n_layer)]
        self.values: list[Matrix] = [[] for _ in range(self.shape.n_layer)]

    def linear(self, x: list[int], name: str) -> list[int]:
        tape = self.tape
        return [
            tape.sum(tape.mul(w, xi) for w, xi in zip(row, x, strict=True))
            for row in self.weights[name]
        ]

    def softmax(self, logits: list[int]) -> list[int]:
        tape = self.tape
        top = max(tape.data[logit] for logit in logits)
        exps = [tape.exp(tape.subtract_number(logit, top)) for logit in logits]
        total = tape.sum(exps)
        return [tape.divide(e, total) for e in exps]

    def rmsnorm(self, x: list[int]) -> list[int]:
        tape = self.tape
        mean_square = tape.divide_by_number(tape.sum(tape.mul(xi, xi) for xi in x), len(x))
        scale = tape.power(tape.add(mean_square, tape.put(1e-5)), -0.5)
        return [tape.mul(xi, scale) for xi in x]

    def step(self, token: int, position: int) -> list[int]:
        """Logits after ``token`` at ``position``."""
        tape, shape = self.tape, self.shape
        width = shape.n_embd // shape.n_head
        embeddings = zip(self.weights["wte"][token], self.weights["wpe"][position], strict=True)
        x = self.rmsnorm([tape.add(t, p) for t, p in embeddings])
        for layer in range(shape.n_layer):
            before = x
            x = self.rmsnorm(x)
            q = self.linear(x, f"layer{layer}.attn_wq")
            self.keys[layer].append(self.linear(x, f"layer{layer}.attn_wk"))
            self.values[layer].append(self.linear(x, f"layer{layer}.attn_wv"))
            attended: list[int] = []
            for head in range(shape.n_head):
                part = range(head * width, (head + 1) * width)
                scores = [
                    tape.divide_by_number(
                        tape.sum(tape.mul(q[j], key[j]) for j in part), width**0.5
                    )
                    for key in self.keys[layer]
                ]
                weights = self.softmax(scores)
                for j in part:
                    pairs = zip(weights, self.values[layer], strict=True)
                    attended.append(tape.sum(tape.mul(w, value[j]) for w, value in pairs))
            x = self.linear(attended, f"layer{layer}.attn_wo")
            x = [tape.add(a, b) for a, b in zip(x, before, strict=True)]
            before = x
            x = self.linear(self.rmsnorm(x), f"layer{layer}.mlp_fc1")
            x = self.linear([tape.relu(xi) for xi in x], f"layer{layer}.mlp_fc2")
            x = [tape.add(a, b) for a, b in zip(x, before, strict=True)]
        return self.linear(x, "lm_head")


def loss_and_gradient(
    shape: Shape, flat: Sequence[float], tokens: Sequence[int]
) -> tuple[float, list[float]]:
    """Mean loss of one document, and its derivative by every parameter."""
    network = Network(shape, flat)
    tape = network.tape
    losses = []
    for position in range(min(shape.block_size, len(tokens) - 1)):
        probabilities = network.softmax(network.step(tokens[position], position))
        logarithm = tape.log(probabilities[tokens[position + 1]])
        losses.append(tape.mul(logarithm, tape.put(-1.0)))
    loss = tape.mul(tape.sum(losses), tape.put(1 / len(losses)))
    grads = tape.gradients(loss)
    return tape.data[loss], [grads[parameter] for parameter in network.parameters]


def sample(
    shape: Shape, flat: Sequence[float], rng: random.Random, count: int, temperature: float
) -> list[list[int]]:
    """Token ids of ``count`` invented documents; the last id of the vocabulary ends one."""
    end = shape.vocab_size - 1
    documents = []
    for _ in range(count):
        network = Network(shape, flat)
        token, document = end, []
        for position in range(shape.block_size):
            logits = network.step(token, position)
            scaled = [network.tape.divide_by_number(logit, temperature) for logit in logits]
            weights = [network.tape.data[p] for p in network.softmax(scaled)]
            token = rng.choices(range(shape.vocab_size), weights=weights)[0]
            if token == end:
                break
            document.append(token)
        documents.append(document)
    return documents


def adam(
    params: Sequence[float],
    gradients: Sequence[Sequence[float]],
    num_steps: int,
    learning_rate: float = 0.01,
    beta1: float = 0.85,
    beta2: float = 0.99,
    eps: float = 1e-8,
) -> tuple[list[float], list[float], list[float]]:
    """Parameters, m and v after one step per entry of ``gradients`` (microgpt.py's loop)."""
    p = list(params)
    m, v = [0.0] * len(p), [0.0] * len(p)
    for step, gradient in enumerate(gradients):
        lr_t = learning_rate * (1 - step / num_steps)
        for i in range(len(p)):
            m[i] = beta1 * m[i] + (1 - beta1) * gradient[i]
            v[i] = beta2 * v[i] + (1 - beta2) * gradient[i] ** 2
            m_hat = m[i] / (1 - beta1 ** (step + 1))
            v_hat = v[i] / (1 - beta2 ** (step + 1))
            p[i] -= lr_t * m_hat / (v_hat**0.5 + eps)
    return p, m, v
