"""What strategies reduce to, bit for bit where no rounding comes between; and that all resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from microgpt.checkpoint.format import decode, encode
from microgpt.compression.registry import COMPRESSORS
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.distribution import Distribution
from microgpt.engine.scalar import ScalarEngine
from microgpt.model import GPTConfig
from microgpt.numerics.vectors import Vector
from microgpt.strategies import serial
from microgpt.strategies.base import Promise, Strategy, View
from microgpt.strategies.checks import check_update
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.registry import STRATEGIES, load_strategy
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, from_checkpoint, initial_state, to_checkpoint
from tests.marks import soak
from tests.processes import NAMES, TINY_MODEL

STEPS, BATCH = 5, 8
CORPUS = Corpus(NAMES, 42, 0.2)
MODEL = GPTConfig(CORPUS.tokenizer.vocab_size, **TINY_MODEL)
ENGINE = ScalarEngine(MODEL)


def config_of(distribution: Distribution, batch: int = BATCH, steps: int = STEPS) -> TrainingConfig:
    return TrainingConfig(
        MODEL, steps=steps, batch_size=batch, validation_fraction=0.2, distribution=distribution
    )


def train(
    strategy: Strategy,
    distribution: Distribution = Distribution(),  # noqa: B008  # frozen
    *,
    batch: int = BATCH,
    steps: int = STEPS,
    engine: Any = ENGINE,
    state: TrainingState | None = None,
) -> list[TrainingState]:
    config = config_of(distribution, batch, steps)
    start = initial_state(config, CORPUS) if state is None else state
    evaluates = (3).__eq__
    return [*serial.run(strategy, config, CORPUS, start, engine, evaluates=evaluates)]


def bits(states: Sequence[TrainingState]) -> list[tuple[Any, ...]]:
    """What must be equal."""
    return [(s.step, s.next_document, s.params.tobytes(), s.losses, s.validation) for s in states]


def distance(one: Sequence[TrainingState], other: Sequence[TrainingState]) -> float:
    assert len(one) == len(other) == STEPS
    return max(float(np.abs(a.params - b.params).max()) for a, b in zip(one, other, strict=True))


# sync


@pytest.mark.parametrize(("batch", "replicas"), [(8, 1), (8, 2), (8, 4), (8, 8), (6, 6), (16, 4)])
def test_sync_has_the_same_bits_with_parts_that_are_nodes_of_the_tree(
    batch: int, replicas: int
) -> None:
    alone = train(Sync(), batch=batch)
    assert bits(train(Sync(), Distribution(replicas), batch=batch)) == bits(alone)


@pytest.mark.parametrize(("batch", "replicas"), [(8, 3), (7, 2), (9, 4)])
def test_sync_with_uneven_parts_differs_by_rounding_alone(batch: int, replicas: int) -> None:
    alone = train(Sync(), Distribution(outer_optimizer="sgd:0.5"), batch=batch)
    parts = train(Sync(), Distribution(replicas, outer_optimizer="sgd:0.5"), batch=batch)
    assert distance(alone, parts) < 1e-14
    assert [state.losses for state in alone] == [state.losses for state in parts]


@pytest.mark.parametrize("spec", ["topk:1.0", "randomk:1.0"])
@pytest.mark.parametrize("feedback", [True, False])
def test_compression_that_leaves_nothing_out_changes_no_bit(spec: str, feedback: bool) -> None:
    """But for the sign of zero, which no weight sees."""
    packed = Distribution(4, compress=spec, error_feedback=feedback)
    assert bits(train(Sync(), packed)) == bits(train(Sync(), Distribution(4)))


def test_compression_that_leaves_something_out_does() -> None:
    packed = Distribution(4, compress="topk:0.5")
    assert bits(train(Sync(), packed)) != bits(train(Sync(), Distribution(4)))


def test_replicas_are_there_where_the_run_needs_them() -> None:
    def parts(distribution: Distribution, batch: int = BATCH) -> tuple[int, ...]:
        config = config_of(distribution, batch)
        view = View(config, initial_state(config, CORPUS), (), 0, 1, 1)
        (round,) = Sync().open(view)
        return round.replicas

    assert parts(Distribution()) == ()
    assert parts(Distribution(2)) == (0, 1)
    assert parts(Distribution(compress="f32")) == (0, 1, 2, 3)
    assert parts(Distribution(compress="f32"), batch=3) == (0, 1, 2)
    assert parts(Distribution(aggregate="median")) == (0, 1, 2, 3)


# Local steps


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_local_sgd_with_one_step_is_sync_with_sgd(replicas: int) -> None:
    """theta - mean(theta - (theta - eta g_i)) is theta - eta mean(g_i), but for rounding."""
    local = train(LocalSGD(1), Distribution(replicas, inner_optimizer="sgd:0.5"))
    sync = train(Sync(), Distribution(replicas, outer_optimizer="sgd:0.5"))
    assert distance(local, sync) < 1e-14
    for one, other in zip(local, sync, strict=True):
        assert np.abs(np.array(one.losses) - other.losses).max() < 1e-14
        assert one.next_document == other.next_document


def test_local_sgd_with_several_steps_is_something_else() -> None:
    local = train(LocalSGD(2), Distribution(2, inner_optimizer="sgd:0.5"), batch=4)
    sync = train(Sync(), Distribution(2, outer_optimizer="sgd:0.5"), batch=8)
    assert distance(local, sync) > 1e-4


@pytest.mark.parametrize("replicas", [soak(1), 3])
@pytest.mark.parametrize("inner", ["", soak("sgd:0.5"), "momentum"])
def test_diloco_without_momentum_is_local_sgd(replicas: int, inner: str) -> None:
    plain = "nesterov:learning_rate=1.0,momentum=0.0"
    outer = train(DiLoCo(2), Distribution(replicas, inner_optimizer=inner, outer_optimizer=plain))
    assert bits(outer) == bits(train(LocalSGD(2), Distribution(replicas, inner_optimizer=inner)))


def test_one_replica_of_local_sgd_is_a_plain_loop_of_its_inner_optimizer() -> None:
    """Nobody to average with: every 2 x 8 documents are two steps of SGD whose rate falls."""
    config = config_of(Distribution(1, inner_optimizer="sgd:0.5"))
    state = initial_state(config, CORPUS)
    params = state.params
    states = train(LocalSGD(2), config.distribution)
    for step in range(2 * STEPS):
        given = ENGINE.gradients(params, [*CORPUS.documents(8 * step, 8)])
        params = params - 0.5 * (1 - step / (2 * STEPS)) * given.gradient / 8
        if step % 2:
            assert np.abs(states[step // 2].params - params).max() < 1e-14


def test_a_round_of_local_steps_takes_as_many_batches() -> None:
    states = train(DiLoCo(3), Distribution(2))
    assert [state.next_document for state in states] == [24 * n for n in range(1, STEPS + 1)]


# Resuming


Setting = tuple[str, dict[str, Any], Distribution]
#: Each strategy, with a compressor or an optimizer that keeps something from step to step.
FEW: list[Setting] = [
    ("sync", {}, Distribution(outer_optimizer="momentum")),
    ("local-sgd", {"steps": 2}, Distribution(2, inner_optimizer="adagrad")),
    ("diloco", {"steps": 2}, Distribution(2, compress="powersgd")),
    ("diloco", {"steps": 2}, Distribution(3, outer_optimizer="adam")),
    ("noise-scale", {"shards": 2}, Distribution(3)),
]
#: Each compressor, and further things together.
MORE: list[Setting] = [
    *(("sync", {}, Distribution(3, compress=name)) for name in COMPRESSORS),
    *(
        ("diloco", {"steps": 2}, Distribution(2, compress=name))
        for name in ("int8:rounding=stochastic", "randomk:0.3", "topk:0.2")
    ),
    ("local-sgd", {"steps": 2}, Distribution(3)),
    ("sync", {}, Distribution(aggregate="centered-clip", replicas=4)),
    ("diloco", {"steps": 1}, Distribution(5, aggregate="krum", compress="qsgd")),
]
SETTINGS = [*FEW, *MORE]


@pytest.mark.parametrize(
    ("name", "options", "distribution"),
    [*FEW, *(soak(*each) for each in MORE)],
    ids=[f"{n}-{d.compress}-{d.aggregate}-{d.inner_optimizer}-{d.outer_optimizer}"
         for n, _, d in SETTINGS],
)  # fmt: skip
def test_a_run_goes_on_from_each_of_its_checkpoints_with_the_same_bits(
    name: str, options: dict[str, Any], distribution: Distribution
) -> None:
    strategy = load_strategy(name, options)
    config = config_of(distribution)
    states = train(strategy, distribution)
    saved = [
        to_checkpoint(config, state, CORPUS.tokenizer, {}, "run")
        for state in [initial_state(config, CORPUS), *states]
    ]
    for step, checkpoint in enumerate(saved[:-1]):
        loaded = decode(encode(checkpoint), "FILE")
        after = train(strategy, distribution, state=from_checkpoint(loaded))
        assert bits(after) == bits(states[step:])
        last = to_checkpoint(config, after[-1], CORPUS.tokenizer, {}, "run")
        assert last.state_sha256 == saved[-1].state_sha256
        assert last.distributed == saved[-1].distributed


def test_all_exact_strategies_are_resumed() -> None:
    exact = {n for n in STRATEGIES if load_strategy(n).promise is Promise.EXACT}
    assert {name for name, _, _ in SETTINGS} == exact


# Liars


@pytest.mark.filterwarnings("error")  # nobody is to see one
@pytest.mark.parametrize(("weight", "credible"), [(1e99, True), (-1e101, False), (1e308, False)])
def test_a_weight_beyond_belief_ends_a_step_as_an_infinite_one_does(
    weight: float, credible: bool
) -> None:
    before = initial_state(config_of(Distribution()), CORPUS)
    params = np.array([weight, *before.params[1:]])
    after = replace(before, step=1, params=params, losses=(1.0,))
    if credible:
        assert check_update("mine", before, after) is after
        return
    with pytest.raises(ArithmeticError, match="step 1 makes a weight or the loss infinite"):
        check_update("mine", before, after)


class Lying:
    """An engine that multiplies the gradients of one replica of five."""

    def __init__(self, factor: float, liar: int) -> None:
        self._factor, self._liar, self._calls = factor, liar, count()

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]], /) -> Any:
        """Replicas are asked in their order."""
        made = ENGINE.gradients(params, documents)
        if next(self._calls) % 5 != self._liar:
            return made
        return replace(made, gradient=self._factor * made.gradient)

    losses = ENGINE.losses


@pytest.mark.parametrize("rule", ["krum", soak("multi-krum"), "median", soak("trimmed-mean")])
def test_a_rule_bears_a_lying_replica(rule: str) -> None:
    distribution = Distribution(5, aggregate=rule)
    honest = train(Sync(), distribution, batch=10)
    for liar in (0, 3):
        away = [
            train(Sync(), distribution, batch=10, engine=Lying(factor, liar))
            for factor in (1e6, 1e9, -1e9)
        ]
        for states in away:
            assert distance(states, honest) < 0.1
        if rule != "median" and rule != "trimmed-mean":
            first, *others = map(bits, away)
            assert others == [first, first], "what is lied is not looked at at all"


def test_the_mean_bears_none() -> None:
    distribution = Distribution(5, outer_optimizer="sgd:0.5")
    honest = train(Sync(), distribution, batch=10)
    lied = train(Sync(), distribution, batch=10, engine=Lying(50.0, 3))
    assert distance(lied, honest) > 1
