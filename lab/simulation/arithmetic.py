"""What virtual workers compute, and the quiet run that every schedule is compared with.

The bits of a step's shards are the same in every schedule, as long as nothing is wrong; so they
are computed once, and found by the very weights and documents the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.distribution import Distribution
from microgpt.engine import make_engine
from microgpt.engine.answering import Answerer, documents_of
from microgpt.engine.base import ShardGradient
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector, vector_from_map, vector_to_map
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import to_bytes
from microgpt.protocol import messages
from microgpt.replicas.byzantine import KINDS, Knowledge, Liar
from microgpt.replicas.recipe import recipe_of
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy
from microgpt.strategies.parts import settled
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, initial_state
from worker.state import Job

STAND_IN = "stand-in"
REMEMBERED = 20_000  # shards; a program that trains wrongly must not fill the memory

NAMES = ("ada", "bea", "cab", "dab", "abba", "ed", "bede", "dada", "ace", "ebba", "cade", "bab")

SYNC = Sync()
PLAIN = Distribution()
HELD_OUT = 0.25  # of the names, where there is an evaluation

Compute = Callable[[Vector, Sequence[Sequence[int]]], ShardGradient]


@dataclass(frozen=True)
class ReferenceRun:
    """A training to simulate: ``states[i]`` is that of the quiet run after ``i`` steps."""

    config: TrainingConfig
    corpus: Corpus
    calculate: Calculator
    states: tuple[TrainingState, ...]
    strategy: Strategy


class Calculator:
    """The engine of all virtual workers."""

    def __init__(self, compute: Compute, config: TrainingConfig) -> None:
        self._compute, self._block_size = compute, config.model.block_size
        self._shapes, self._recipe = parameter_shapes(config.model), recipe_of(config)
        self._known: dict[tuple[object, ...], tuple[bytes, dict[str, bytes]]] = {}
        self._weights: tuple[Mapping[str, bytes], bytes] = {}, b""  # the last ones, and joined

    def engine(self) -> DocumentByDocument:
        """What computes as it does, in the process of the caller."""
        return DocumentByDocument(self._compute, self._block_size)

    def answerer(
        self, lie: str = "", seed: int = 0, knowledge: Knowledge | None = None
    ) -> Answerer:
        """Who does the work of replicas in one process, and keeps their states.

        If ``lie`` is one of ``microgpt.replicas.lies``, it tells it; ``seed`` decides the noise.
        ``knowledge``: where liars look for honest vectors, and others leave theirs.
        """
        liar = Liar(lie, seed, knowledge) if lie in KINDS else knowledge
        return Answerer(self.engine(), self._shapes, self._recipe, liar)

    def __call__(
        self, job: Job, seconds: float, answerer: Answerer, lie: bool = False
    ) -> messages.ShardResult:
        """The answer to a job that has taken so long; wrong in one bit if it is to ``lie``."""
        task = job.task
        if isinstance(task, messages.ReplicaTask) or answerer.lies:
            return self._by_answerer(job, seconds, answerer, lie)
        if job.weights is not self._weights[0]:  # many come with the same
            self._weights = job.weights, b"".join(job.weights.values())
        key = self._weights[1], task.tokens, task.lengths, task.training
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            params = vector_from_map(job.weights, self._shapes)
            result = self._compute(params, documents_of(task))
            gradient = vector_to_map(result.gradient, self._shapes) if task.training else {}
            known = to_bytes(result.losses), gradient
            self._known[key] = known
        losses, gradient = known
        if lie and not task.training:
            losses = wrong_bit(losses)
        elif lie:
            gradient = {**gradient, "wte": wrong_bit(gradient["wte"])}
        place = task.step, task.start, task.count
        return messages.ShardResult(
            task.run, task.epoch, *place, seconds, losses, gradient, task.training, round=task.round
        )

    def _by_answerer(
        self, job: Job, seconds: float, answerer: Answerer, lie: bool
    ) -> messages.ShardResult:
        if job.replica is not None:
            answerer.restore(job.replica)
        answer = answerer.answer(job.weights, job.task)
        assert isinstance(answer, messages.ShardResult)  # noqa: S101  # the numbers are small
        answer = replace(answer, seconds=seconds)
        if not lie:
            return answer
        if isinstance(answer, messages.ReplicaResult) and answer.payload:
            return replace(answer, losses=wrong_bit(answer.losses))
        gradient = {**answer.gradient, "wte": wrong_bit(answer.gradient["wte"])}
        return replace(answer, gradient=gradient)


def wrong_bit(part: bytes) -> bytes:
    """With another last bit in its first byte."""
    return bytes([part[0] ^ 1]) + part[1:]


def stand_in(params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
    """A pure function of weights and documents whose sum depends on the order, like a gradient."""
    losses, gradients = [], []
    pattern = np.arange(len(params)) * 0.6180339887 % 1.0 - 0.5
    for document in documents:
        mixed = (
            sum((place + 1) * 7919 * token for place, token in enumerate(document)) % 1009 / 1009
        )
        losses.append(1.0 + mixed + 0.1 * float(params[0]))
        gradients.append(params * (mixed - 0.3) + pattern * mixed)
    return ShardGradient(tuple(losses), tree_sum(gradients))


class DocumentByDocument:
    """An engine that is asked for one document at a time, so that no sum is left to it.

    A document that comes again with the same weights is not computed again.
    """

    name = "virtual"

    def __init__(self, compute: Compute, block_size: int) -> None:
        self._compute = compute
        self._last = block_size + 1  # what lies behind it is not sent
        self._weights = b""
        self._known: dict[tuple[int, ...], ShardGradient] = {}  # with these weights

    def _one(self, params: Vector, document: tuple[int, ...]) -> ShardGradient:
        known = self._known.get(document)
        if known is None:
            known = self._known[document] = self._compute(params, [document])
        return known

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
        """Losses of the documents, and the tree sum of their gradients."""
        weights = params.tobytes()
        if weights != self._weights:
            self._weights, self._known = weights, {}
        each = [self._one(params, tuple(document[: self._last])) for document in documents]
        losses = tuple(result.losses[0] for result in each)
        return ShardGradient(losses, tree_sum([result.gradient for result in each]))

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """Losses of the documents."""
        return self.gradients(params, documents).losses


@cache
def reference_run(
    steps: int,
    batch_size: int,
    engine: str,
    eval_every: int = 0,
    strategy: Strategy = SYNC,
    distribution: Distribution = PLAIN,
) -> ReferenceRun:
    """A training of this size on a tiny model, with the quiet run computed without a network.

    Some names are held out if ``eval_every`` is not 0.
    """
    held_out = HELD_OUT if eval_every else 0.0
    corpus = Corpus(NAMES, 42, held_out)
    width = 2 if engine == STAND_IN else 4
    model = GPTConfig(corpus.tokenizer.vocab_size, 1, width, 1, 4)
    fewer = min(distribution.replicas, batch_size)
    fitting = replace(settled(distribution, strategy), replicas=fewer)
    config = TrainingConfig(
        model, steps=steps, batch_size=batch_size, validation_fraction=held_out,
        distribution=fitting,
    )  # fmt: skip
    compute = stand_in if engine == STAND_IN else make_engine(engine, model).gradients
    corpus.divide(config)
    start = initial_state(config, corpus)
    one_by_one = DocumentByDocument(compute, model.block_size)
    states = serial.run(
        strategy, config, corpus, start, one_by_one,
        evaluates=lambda step: step % max(1, eval_every) == 0 or step == steps,
    )  # fmt: skip
    calculate = Calculator(compute, config)
    return ReferenceRun(config, corpus, calculate, (start, *states), strategy)


def same_state(one: TrainingState, other: TrainingState) -> bool:
    """Whether two states are equal in every bit of all that decides the future, and the losses."""
    if one is other:
        return True
    numbers = [(one.params, other.params), (one.m, other.m), (one.v, other.v)]
    if one.slots.keys() != other.slots.keys():
        return False
    numbers += [(one.slots[name], other.slots[name]) for name in one.slots]
    plain = replace(one, params=other.params, m=other.m, v=other.v)
    return all(a.tobytes() == b.tobytes() for a, b in numbers) and (
        (plain.step, plain.rng_state, plain.losses, plain.validation, plain.next_document)
        == (other.step, other.rng_state, other.losses, other.validation, other.next_document)
    )
