"""What replicas do, against an independent reading; what they keep, and what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from microgpt.compression.registry import COMPRESSORS, load_compressor
from microgpt.data.corpus import Corpus
from microgpt.engine.answering import Answerer
from microgpt.engine.base import NonFiniteError
from microgpt.engine.scalar import ScalarEngine
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector, vector_to_map
from microgpt.optim.adamw import AdamW
from microgpt.optim.sgd import SGD
from microgpt.parameters import num_params
from microgpt.protocol import messages
from microgpt.replicas import work
from microgpt.replicas.recipe import from_plain, make_recipe, to_plain
from microgpt.replicas.state import Assignment, PastTask, ReplicaLog, ReplicaState
from microgpt.replicas.work import (
    Done,
    Recipe,
    ReplicaOverflowError,
    ReplicaStateError,
    check_state,
    compute,
    seed_of,
)
from microgpt.strategies.base import LocalSteps, Round
from tests.processes import NAMES, TINY_MODEL

CORPUS = Corpus(NAMES, 42)
MODEL = GPTConfig(CORPUS.tokenizer.vocab_size, **TINY_MODEL)
SHAPES = parameter_shapes(MODEL)
SIZE = num_params(SHAPES)
ENGINE = ScalarEngine(MODEL)
RNG = np.random.default_rng(3)
THETA = RNG.normal(0, 0.5, SIZE)
UPDATES = 20
EPS = 1e-3  # Adam's: with less it would make steps of gradients that are rounding alone


def documents(first: int, count: int) -> list[list[int]]:
    return [*CORPUS.documents(first, count)]


def task(clock: int = 0, **more: Any) -> Assignment:
    return Assignment(**{"replica": 1, "clock": clock, "version": 3, "updates": UPDATES, **more})


def do(
    recipe: Recipe,
    assignment: Assignment,
    given: Sequence[Sequence[int]],
    state: ReplicaState = ReplicaState(),  # noqa: B008  # frozen
    params: Vector = THETA,
) -> Done:
    return compute(recipe, assignment, SHAPES, params, given, state, ENGINE)


# What is computed


def test_a_gradient_is_what_the_engine_gives() -> None:
    done = do(Recipe(AdamW()), task(), documents(5, 4))
    given = ENGINE.gradients(THETA, documents(5, 4))
    assert done.vector.tobytes() == given.gradient.tobytes()
    assert done.losses.tolist() == [*given.losses]
    assert (done.payload, done.state) == (None, ReplicaState(1, {}))


class Reading(NamedTuple):
    """Local AdamW or SGD written down once more, from the formulas, with plain NumPy."""

    theta: Vector
    m: Vector
    v: Vector
    t: int
    losses: list[float]


def reading(
    own: Vector, m: Vector, v: Vector, t: int, given: Sequence[Sequence[int]], steps: int,
    *, inner: str, version: int,
) -> Reading:  # fmt: skip
    bounds = [h * len(given) // steps for h in range(steps + 1)]
    losses: list[float] = []
    for h, (a, b) in enumerate(pairwise(bounds)):
        batch = [ENGINE.gradients(own, [document]) for document in given[a:b]]
        losses += [one.losses[0] for one in batch]
        g = np.mean([one.gradient for one in batch], axis=0)
        falls = 1 - (version + h / steps) / UPDATES
        t += 1
        if inner == "sgd":
            own = own - 0.25 * falls * g
            continue
        eta = 0.01 * falls
        m, v = 0.85 * m + 0.15 * g, 0.99 * v + 0.01 * g**2
        m_hat, v_hat = m / (1 - 0.85**t), v / (1 - 0.99**t)
        own = own - eta * 0.01 * own - eta * m_hat / (np.sqrt(v_hat) + EPS)
    return Reading(own, m, v, t, losses)


@pytest.mark.parametrize("count", [6, 7, 8, 3])
@pytest.mark.parametrize("inner", ["adamw", "sgd"])
def test_local_steps(inner: str, count: int) -> None:
    """Two tasks, one after the other, so that the inner optimizer goes on where it was."""
    recipe = Recipe(AdamW(eps=EPS) if inner == "adamw" else SGD(0.25))
    state, zeros = ReplicaState(), np.zeros(SIZE)
    was = Reading(zeros, zeros, zeros, 0, [])
    for clock, version in enumerate([3, 5]):
        theta = THETA + 0.01 * clock
        given = documents(10 * clock, count)
        done = do(recipe, task(clock, version=version, steps=3), given, state, theta)
        was = reading(theta, was.m, was.v, was.t, given, 3, inner=inner, version=version)
        assert np.abs(done.vector - (theta - was.theta)).max() < 1e-14
        assert np.abs(done.losses - was.losses).max() < 1e-14
        state = done.state
        assert state.clock == clock + 1
        assert [*state.vectors] == (["inner.m", "inner.v"] if inner == "adamw" else [])
        if inner == "adamw":
            assert np.abs(state.vectors["inner.m"] - was.m).max() < 1e-14
            assert np.abs(state.vectors["inner.v"] - was.v).max() < 1e-14


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_elastic_averaging(alpha: float) -> None:
    """The replica keeps its own weights; both move by alpha of what they are apart."""
    recipe = Recipe(SGD(0.25))
    own, state, zeros = THETA, ReplicaState(), np.zeros(SIZE)
    for clock in range(3):
        theta, given = THETA + 0.1 * clock, documents(4 * clock, 4)
        assignment = task(clock, steps=2, elastic=alpha)
        done = do(recipe, assignment, given, state, theta)
        after = reading(own, zeros, zeros, 0, given, 2, inner="sgd", version=3).theta
        assert np.abs(done.vector - alpha * (theta - after)).max() < 1e-14
        own = after + alpha * (theta - after)
        assert np.abs(done.state.vectors["weights"] - own).max() < 1e-14
        state = done.state


def test_the_rate_of_local_steps_does_not_fall_below_zero() -> None:
    """Where rounds overlap, one may be computed with weights near the end of the run."""
    recipe = Recipe(SGD(0.25))
    done = do(recipe, task(version=9, steps=2, updates=2), documents(0, 4))
    assert not done.vector.any()


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("steps", [0, 2])
def test_what_was_sent_and_the_residual_add_up(name: str, steps: int) -> None:
    """Over several tasks nothing is lost but rounding: half a unit in the last place of a sum."""
    compressor = load_compressor(name)
    recipe = Recipe(AdamW(), compressor, error_feedback=True, seed=7)
    bare = replace(recipe, compressor=None)
    state, plain = ReplicaState(), ReplicaState()
    sent, whole, largest = np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE)
    for clock in range(6):
        given = documents(4 * clock, 4)
        done = do(recipe, task(clock, steps=steps), given, state)
        without = do(bare, task(clock, steps=steps), given, plain)
        assert done.losses.tobytes() == without.losses.tobytes()
        assert done.payload is not None
        seed = seed_of(7, 1, clock)
        again = compressor.decompress(done.payload, SHAPES, seed)
        assert again.tobytes() == done.vector.tobytes(), "what the coordinator makes of it"
        sent, whole = sent + done.vector, whole + without.vector
        state, plain = done.state, without.state
        largest = np.maximum(largest, np.abs(done.vector) + np.abs(state.vectors["residual"]))
    off = np.abs(sent + state.vectors["residual"] - whole)
    assert (off <= 6 * 4 * np.finfo(float).eps * (largest + np.abs(whole))).all()


def test_without_error_feedback_nothing_is_left_over() -> None:
    recipe = Recipe(AdamW(), load_compressor("topk"), error_feedback=False)
    done = do(recipe, task(), documents(0, 2))
    assert done.state == ReplicaState(1, {})
    assert np.count_nonzero(done.vector) == max(1, round(0.01 * SIZE))


def test_what_is_drawn_differs_by_replica_and_task_and_by_nothing_else() -> None:
    seeds = {seed_of(s, r, c) for s in (1, 2) for r in (0, 1, 11) for c in (0, 1, 11)}
    assert len(seeds) == 18
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert seed_of(42, 0, 0) == 4737712930426483507


# What is kept


@pytest.mark.parametrize("name", ["", *COMPRESSORS])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("elastic", [0.0, 0.5])
@pytest.mark.parametrize("feedback", [True, False])
def test_the_layout_is_that_of_the_state(
    name: str, steps: int, elastic: float, feedback: bool
) -> None:
    recipe = Recipe(AdamW(), load_compressor(name) if name else None, error_feedback=feedback)
    assignment = task(steps=steps, elastic=elastic if steps else 0.0)
    done = do(recipe, assignment, documents(0, 2))
    layout = recipe.layout(assignment, SHAPES)
    assert {name: len(vector) for name, vector in done.state.vectors.items()} == layout
    check_state(done.state.vectors, layout)
    assert recipe.keeps_state(assignment) == bool(layout)
    assert recipe.may_keep(done.state.vectors, SHAPES)
    assert recipe.may_keep({}, SHAPES)
    assert not recipe.may_keep({**done.state.vectors, "more": THETA}, SHAPES)
    if any(layout.values()):
        assert not recipe.may_keep({name: x[1:] for name, x in done.state.vectors.items()}, SHAPES)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ({}, "missing or unknown parts"),
        ({"residual": THETA, "more": THETA}, "missing or unknown parts"),
        ({"residual": THETA[1:]}, f"part 'residual' of a replica's state has not {SIZE} numbers"),
        ({"residual": THETA * np.inf}, "part 'residual' of a replica's state is not finite"),
    ],
)
def test_a_state_of_another_layout(vectors: dict[str, Vector], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_state(vectors, {"residual": SIZE})


def test_nothing_is_changed_in_place() -> None:
    recipe = Recipe(AdamW(), load_compressor("powersgd"))
    assignment = partial(task, steps=2, elastic=0.5)
    first = do(recipe, assignment(0), documents(0, 4))
    before = {name: vector.tobytes() for name, vector in first.state.vectors.items()}
    do(recipe, assignment(1), documents(4, 4), first.state)
    assert {name: vector.tobytes() for name, vector in first.state.vectors.items()} == before


def test_a_task_wants_the_state_before_it() -> None:
    recipe = Recipe(AdamW(), load_compressor("topk"))
    first = do(recipe, task(0), documents(0, 2))
    for clock in (0, 2):
        with pytest.raises(ReplicaStateError, match=f"has done 1 tasks, not {clock}"):
            do(recipe, task(clock), documents(0, 2), first.state)


def test_without_a_state_any_task_may_come() -> None:
    assert do(Recipe(AdamW()), task(17), documents(0, 2)).state.clock == 18


def test_the_tasks_of_a_log_follow_each_other() -> None:
    first, third = (PastTask(task(clock), 0, 1, THETA) for clock in (0, 2))
    for since in ([third], [first, third], [first, first]):
        with pytest.raises(ValueError, match="the tasks of replica 1 do not follow each other"):
            ReplicaLog(1, ReplicaState(), tuple(since))
    with pytest.raises(ValueError, match="do not follow"):
        ReplicaLog(2, ReplicaState(), (first,))
    assert ReplicaLog(1, ReplicaState(), (first,)).clock == 1


# What goes wrong


def test_more_steps_than_documents() -> None:
    with pytest.raises(ValueError, match="2 documents are too few for 3 steps"):
        do(Recipe(AdamW()), task(steps=3), documents(0, 2))


class Steep:
    """An engine whose gradients are large, whatever the weights are."""

    def gradients(self, params: Vector, given: Sequence[Sequence[int]], /) -> Any:
        """A thousand times those of other weights."""
        made = ENGINE.gradients(THETA, given)
        return replace(made, gradient=1000 * made.gradient)

    losses = ENGINE.losses


STEEP: Any = Steep()


@pytest.mark.parametrize("compress", ["", "topk:1.0"])
def test_local_steps_that_overflow(compress: str) -> None:
    compressor = load_compressor(compress) if compress else None
    recipe = Recipe(SGD(1e308), compressor)
    with pytest.raises(ReplicaOverflowError, match="a weight of a replica becomes infinite"):
        compute(recipe, task(steps=1), SHAPES, THETA, documents(0, 2), ReplicaState(), STEEP)


class Failing:
    """An engine for which one document has no finite gradient."""

    def __init__(self, bad: list[int]) -> None:
        self._bad = bad

    def gradients(self, params: Vector, given: Sequence[Sequence[int]], /) -> Any:
        """As the real one, or NonFiniteError."""
        for place, document in enumerate(given):
            if [*document] == self._bad:
                raise NonFiniteError(place, "its loss is not finite")
        return ENGINE.gradients(params, given)

    losses = ENGINE.losses


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_failure_names_the_document_among_all_of_the_task(place: int, steps: int) -> None:
    given = documents(0, 7)
    engine: Any = Failing(given[place])
    with pytest.raises(NonFiniteError) as caught:
        compute(
            Recipe(AdamW()), task(steps=steps), SHAPES, THETA, given, ReplicaState(),
            engine,
        )  # fmt: skip
    assert caught.value.document == place


def replica_task(given: Sequence[Sequence[int]], clock: int) -> messages.ReplicaTask:
    from microgpt.data.packed import PackedDocuments

    tokens, lengths = PackedDocuments.pack(given).to_bytes()
    return messages.ReplicaTask(
        "run", "epoch", 3, 8, len(given), tokens, lengths, round=5, replica=1, clock=clock,
        steps=2, elastic=0.0, updates=UPDATES, snapshot=True, redo=False,
    )  # fmt: skip


def test_after_a_failure_a_replica_has_done_the_task_and_is_as_it_was() -> None:
    given = documents(0, 4)
    recipe = Recipe(AdamW(), load_compressor("topk"))
    engine: Any = Failing(given[3])
    answerer = Answerer(engine, SHAPES, recipe)
    weights = vector_to_map(THETA, SHAPES)
    first = answerer.answer(weights, replica_task(documents(8, 4), 0))
    assert isinstance(first, messages.ReplicaResult)
    failure = answerer.answer(weights, replica_task(given, 1))
    assert failure == messages.Failure("run", "epoch", 3, 8 + 3, "its loss is not finite", round=5)
    third = answerer.answer(weights, replica_task(documents(16, 4), 2))
    assert isinstance(third, messages.ReplicaResult)
    state = do(recipe, task(0, steps=2), documents(8, 4)).state
    skipped = ReplicaState(2, state.vectors)
    expected = do(recipe, task(2, steps=2), documents(16, 4), skipped)
    assert third.payload == expected.payload
    assert third.state == {n: x.tobytes() for n, x in expected.state.vectors.items()}


def test_a_worker_says_that_a_replica_overflows() -> None:
    answerer = Answerer(STEEP, SHAPES, Recipe(SGD(1e308)))
    failure = answerer.answer(vector_to_map(THETA, SHAPES), replica_task(documents(0, 4), 0))
    assert isinstance(failure, messages.Failure)
    assert (failure.document, failure.reason) == (8, "a weight of a replica becomes infinite")


# How the recipe travels


def test_a_recipe_is_the_same_at_the_other_end() -> None:
    from microgpt.config import TrainingConfig
    from microgpt.distribution import Distribution

    distribution = Distribution(
        4, compress="topk:0.5", error_feedback=False, inner_optimizer="momentum:learning_rate=0.5"
    )
    config = TrainingConfig(MODEL, steps=9, seed=5, distribution=distribution)
    assert from_plain(to_plain(config)) == make_recipe(distribution, config.adam, 5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": True}, "the seed is a whole number"),
        ({"seed": None}, "the seed is a whole number"),
        ({"more": 1}, "not a recipe"),
        ({"compress": "zip"}, "there is no compressor 'zip'"),
        ({"compress": 7}, "compress must be a name"),
        ({"inner_optimizer": "lion"}, "there is no optimizer 'lion'"),
        ({"compress": "/etc/own.py:Mine"}, "start the worker with --trust /etc/own.py:Mine"),
        ({"inner_optimizer": "x.py:A"}, "start the worker with --trust x.py:A"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_a_hostile_recipe_is_a_value_error(change: dict[str, Any], reason: str) -> None:
    from microgpt.config import TrainingConfig

    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        from_plain({**to_plain(TrainingConfig(MODEL)), **change})


@pytest.mark.parametrize("name", ["seed", "learning_rate"])
def test_a_recipe_without_a_part(name: str) -> None:
    from microgpt.config import TrainingConfig

    plain = to_plain(TrainingConfig(MODEL))
    del plain[name]
    with pytest.raises(ValueError, match="not a recipe for replicas"):
        from_plain(plain)


# Which documents are whose


@pytest.mark.parametrize(("count", "replicas"), [(8, 4), (7, 3), (5, 5), (100, 7)])
def test_the_parts_of_a_round_are_all_of_it(count: int, replicas: int) -> None:
    parts = Round(0, 0, count, replicas=tuple(range(replicas))).parts()
    places = [place for part in parts for place in range(part.start, part.start + part.count)]
    assert places == [*range(count)]
    sizes = [part.count for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Round(0, 0, 3, replicas=(0, 1, 2, 3)),
        lambda: Round(0, 0, 7, LocalSteps(2), replicas=(0, 1, 2, 3)),
        lambda: Round(0, 0, 8, LocalSteps(2)),
        lambda: Round(0, 0, 8, replicas=(1, 0)),
        lambda: Round(0, 0, 8, replicas=(0, 0)),
        lambda: Round(0, 0, 8, replicas=(-1,)),
        lambda: Round(0, 0, 8, shard_size=2, replicas=(0,)),
        lambda: LocalSteps(0),
        lambda: LocalSteps(1, 1.5),
        lambda: LocalSteps(1, -0.5),
    ],
)
def test_rounds_that_cannot_be(make: Any) -> None:
    with pytest.raises(ValueError, match=r"replica|steps"):
        make()


def test_the_seed_is_not_the_numbers_of_the_module() -> None:
    """``work`` draws nothing itself: the same task gives the same bits."""
    recipe = Recipe(AdamW(), load_compressor("int8"))
    one, other = (do(recipe, task(), documents(0, 2)) for _ in range(2))
    assert one.payload == other.payload
    assert work.seed_of(1, 1, 1) != work.seed_of(1, 2, 1)
