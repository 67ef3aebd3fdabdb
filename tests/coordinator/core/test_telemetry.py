"""What is told of updates: norms of tensors and numbers of strategies, against plain readings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.actions import Action
from coordinator.core.events import Level, NumbersFailed, StrategyNumbers, TensorNorms
from coordinator.core.inputs import Input, Received, Saved, Tick
from coordinator.core.replicas import Replicas
from coordinator.core.telemetry import MOST_LABELS, OTHERS, SMALL, Telemetry, tensor_norms
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import Vector, vector_from_bytes
from microgpt.parameters import Shapes
from microgpt.protocol import messages
from microgpt.replicas.recipe import recipe_of
from microgpt.strategies.asking import Look
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.backup import Backup
from microgpt.strategies.base import Result, Round, Strategy, View
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.easgd import EASGD
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, initial_state
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import CORPUS, MODEL, mean_gradient, settings, start

PEERS = (b"A", b"B", b"C", b"D", b"E")
A, B, C, *_ = PEERS
SHAPES = parameter_shapes(MODEL)
BATCH = 6
RATE = 0.5


class Remembering(ReplicaPlay):
    """Knows what was answered last."""

    answered: messages.ReplicaResult

    def do(self, event: Input, after: float = 0.0) -> list[Action]:
        if isinstance(event, Received) and isinstance(event.message, messages.ReplicaResult):
            self.answered = event.message
        return super().do(event, after)


def begin(
    strategy: Strategy, peers: Sequence[bytes], steps: int = 100, level: Level = Level.ROUNDS,
    **distribution: Any,
) -> Remembering:  # fmt: skip
    config = settings(steps, BATCH, **distribution)
    play = Remembering(config, strategy, worker_timeout=1000.0, events=level)
    play.joins(*peers)
    return play


def plain_norms(vector: Vector, shapes: Shapes = SHAPES) -> list[float]:
    """Of each tensor, number by number."""
    norms, at = [], 0
    for rows, columns in shapes.values():
        part = vector.tolist()[at : at + rows * columns]
        norms.append(math.sqrt(math.fsum(x * x for x in part)))
        at += rows * columns
    assert at == len(vector)
    return norms


def distance(one: Vector, other: Vector) -> float:
    return math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(one, other, strict=True)))


def plain_spread(vectors: Sequence[Vector]) -> float:
    """The root mean square distance from the mean, number by number."""
    mean = np.array([math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)])
    return math.sqrt(math.fsum(distance(x, mean) ** 2 for x in vectors) / len(vectors))


def passes(play: ReplicaPlay, seconds: float) -> None:
    play.do(Tick(), seconds)


# --- norms ---------------------------------------------------------------------------------------


def test_norms_are_those_of_the_mean_gradient_and_of_the_weights_way_in_each_tensor() -> None:
    play = begin(Sync(), [A])
    for step in range(3):
        before = play.state.training.params
        passes(play, 1.0)
        play.answers(A)
        told = play.events(TensorNorms)[step]
        assert (told.version, told.tensors) == (step + 1, tuple(SHAPES))
        gradient = mean_gradient(before, step * BATCH, BATCH)
        assert told.gradient == pytest.approx(plain_norms(gradient), rel=1e-12)
        way = play.state.training.params - before
        assert told.update == pytest.approx(plain_norms(way), rel=1e-12)
        assert min(told.update) > 0.0


def test_norms_are_told_once_a_second_and_after_the_last_update() -> None:
    play = begin(Sync(), [A], steps=10)
    for _ in range(10):
        play.answers(A)
        passes(play, 0.25)
    assert [event.version for event in play.events(TensorNorms)] == [1, 5, 9, 10]
    assert play.events(StrategyNumbers) == [], "sync without replicas has none"


def test_of_a_large_model_they_are_told_more_seldom() -> None:
    config = settings(100, BATCH)
    state = replace(initial_state(config, CORPUS), params=np.zeros(2 * SMALL))
    out = ActionBuffer(Level.ROUNDS)
    driver = RoundDriver(Sync(), config, state)
    telemetry = Telemetry(out, driver, Replicas("", "", recipe_of(config)))
    assert telemetry.look(0.0) is not None
    telemetry.updated(Look(), state, state, 0.0)
    assert [telemetry.look(now) is not None for now in (0.5, 0.999, 1.0)] == [False, False, True]


def test_a_strategy_that_tells_of_no_gradient_has_only_the_norms_of_its_way() -> None:
    class Halves(Sync):
        def update(
            self, view: View, round: Round, results: Sequence[Result]
        ) -> TrainingState | None:
            after = super().update(view, round, results)
            view.along([1.0])  # type: ignore[arg-type]  # that is no vector
            view.along(np.zeros(3))
            return after

    play = begin(Halves(), [A])
    play.answers(A)
    (told,) = play.events(TensorNorms)
    assert told.gradient == ()
    assert len(told.update) == len(SHAPES)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([3.0, 4.0, 1e200, 0.0, 0.0], (5.0, 1e200, 0.0)),
        ([3e300, 4e300, 0.0, 1e300, -1e300], (5e300, 1e300, 1e300)),
        ([0.0] * 5, (0.0, 0.0, 0.0)),
    ],
)
def test_norms_of_very_large_numbers_are_finite(
    numbers: list[float], expected: tuple[float, ...]
) -> None:
    shapes = {"a": (2, 1), "b": (1, 2), "c": (1, 1)}
    assert tensor_norms(np.array(numbers), shapes) == pytest.approx(expected, rel=1e-12)


def test_a_norm_beyond_all_numbers_is_the_largest_number() -> None:
    largest = np.finfo(np.float64).max
    (norm,) = tensor_norms(np.full(4, largest), {"a": (2, 2)})
    assert norm == largest


# --- numbers of strategies -----------------------------------------------------------------------


def test_replicas_that_are_averaged_tell_how_far_they_were_apart_and_went() -> None:
    steps = 2
    inner = f"sgd:{RATE}"
    play = begin(LocalSGD(steps), [A, B, C], replicas=3, inner_optimizer=inner)
    theta = start(play.config)
    replicas = []
    for replica in range(3):
        x, each = theta, BATCH // 3
        for step in range(steps):
            rate = RATE * (1 - (step / steps) / 100)
            x = x - rate * mean_gradient(x, (replica * steps + step) * each, each)
        replicas.append(x)
    for peer in (C, A, B):
        play.answers(peer)
    (told,) = play.events(StrategyNumbers)
    after = play.state.training.params
    assert told == StrategyNumbers(1, told.numbers, {})
    assert told.numbers == {
        "consensus_distance": pytest.approx(plain_spread(replicas), rel=1e-9),
        "step_norm": pytest.approx(distance(after, theta), rel=1e-9),
    }
    (norms,) = play.events(TensorNorms)
    assert norms.gradient == pytest.approx(norms.update), "rate 1 along the mean way"


def test_gradients_of_replicas_tell_how_far_they_are_apart() -> None:
    play = begin(Sync(), [A, B], replicas=2)
    weights = start(play.config)
    gradients = [mean_gradient(weights, first, 3) for first in (0, 3)]
    play.answers(A)
    play.answers(B)
    (told,) = play.events(StrategyNumbers)
    expected = pytest.approx(plain_spread(gradients), rel=1e-9)
    assert told.numbers == {"gradient_spread": expected}


def test_stale_gradients_are_counted_used_or_not_and_so_is_the_way_of_the_weights() -> None:
    play = begin(Async(bound=1), [A, B, C], replicas=3, outer_optimizer="sgd:0.5")
    weights = [play.state.training.params]
    seen = {A: 0, B: 0, C: 0}
    staleness: Counter[str] = Counter()
    for number, peer in enumerate((A, A, B, A, C, B)):
        passes(play, 0.125)
        stale = len(weights) - 1 - seen[peer]
        staleness[str(stale)] += 1
        before = weights[-1]
        play.answers(peer)
        if play.state.training.step == len(weights):
            weights.append(play.state.training.params)
        seen[peer] = len(weights) - 1
        told = play.events(StrategyNumbers)
        if number == 0:
            assert told[0].histograms == {"staleness": {"0": 1}}
            assert told[0].numbers["drift"] == 0.0
            staleness.clear()
        if number == 5:  # half a second after the first
            assert stale == 1
            drift = pytest.approx(distance(before, weights[-3]), rel=1e-9)
            assert told[-1].numbers == {"drift": drift, "step_norm": told[-1].numbers["step_norm"]}
    assert sum(staleness.values()) == 5
    assert staleness["2"] >= 1, "one is too stale, and dropped"
    assert play.events(StrategyNumbers)[1].histograms == {"staleness": dict(staleness)}


def test_an_elastic_replica_tells_how_far_it_was_from_the_centre() -> None:
    tau, beta = 2, 0.9
    inner = f"sgd:{RATE}"
    play = begin(EASGD(tau, beta), [A, B], replicas=2, inner_optimizer=inner)
    x = centre = start(play.config)
    for step in range(tau):
        rate = RATE * (1 - (step / tau) / 100)
        x = x - rate * mean_gradient(x, step * BATCH // 2, BATCH // 2)
    play.answers(A)
    (told,) = play.events(StrategyNumbers)
    assert told.numbers["consensus_distance"] == pytest.approx(distance(x, centre), rel=1e-9)
    assert told.histograms == {"staleness": {"0": 1}}


def test_who_is_late_or_rejected_is_counted_by_replica() -> None:
    play = begin(Backup(b=1), PEERS[:3], replicas=2)
    for peer in (A, C):  # the part of replica 1 is late
        play.answers(peer)
    assert play.events(StrategyNumbers)[0].histograms == {"late": {"1": 1}}

    robust = begin(Sync(), PEERS, replicas=5, aggregate="krum:f=1", steps=4)
    for _ in range(4):
        for peer in PEERS:
            robust.answers(peer)
    first, last = robust.events(StrategyNumbers)
    assert (first.version, last.version) == (1, 4)
    (chosen,) = first.histograms["selected"]
    assert first.histograms["rejected"] == {str(r): 1 for r in range(5) if str(r) != chosen}
    rounds = Counter[str]()
    for name in ("rejected", "selected"):
        rounds += Counter(last.histograms[name])
    assert rounds == {str(replica): 3 for replica in range(5)}
    assert sum(last.histograms["selected"].values()) == 3


def test_a_rule_that_rejects_nobody_says_so() -> None:
    play = begin(Sync(), PEERS, replicas=5, aggregate="trimmed-mean")
    for peer in PEERS:
        play.answers(peer)
    assert play.events(StrategyNumbers)[0].histograms == {"rejected": {}}


def test_what_compressors_have_left_out_is_told_once_it_is_known() -> None:
    play = begin(Sync(), [A, B], steps=80, replicas=2, compress="topk:0.25")
    known: dict[bytes, Vector] = {}
    found = 0
    while play.state.closing is None:
        passes(play, 0.5)
        for peer in (A, B):  # each keeps its replica
            play.answers(peer)
            if play.answered.state:
                known[peer] = vector_from_bytes(play.answered.state["residual"])
        told = play.events(StrategyNumbers)[-1]
        assert ("residual_norm" in told.numbers) == (len(known) > 0)
        if known:
            lengths = [math.fsum(x * x for x in residual) for residual in known.values()]
            expected = math.sqrt(math.fsum(lengths) / len(lengths))
            assert told.numbers["residual_norm"] == pytest.approx(expected, rel=1e-9)
            found += 1
    assert found > 40


# --- a user's own --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Own(Sync):
    """``sync`` with numbers of its own: ``gives``, or an error."""

    gives: Any = None

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives  # type: ignore[no-any-return]  # right or wrong


def played(gives: Any, level: Level = Level.ROUNDS) -> ReplicaPlay:
    play = begin(Own(gives), [A], steps=6, level=level)
    for _ in range(6):
        passes(play, 0.5)
        play.answers(A)
    play.do(Saved(6))
    return play


def test_numbers_of_ones_own_are_told_as_they_are() -> None:
    play = played({"gap": 3, "slope": -0.5, "huge": np.int64(7), "odd": math.inf})
    assert [event.numbers for event in play.events(StrategyNumbers)] == [
        {"gap": 3.0, "slope": -0.5, "huge": 7.0}
    ] * 6
    assert play.events(NumbersFailed) == []


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        (KeyError("mine"), "KeyError: 'mine' (line "),
        (SystemExit(3), "SystemExit: 3 (line "),
        (RecursionError("too deep"), "RecursionError: too deep (line "),
        ([1.0], "TypeError: it gives no names with numbers, but [1.0]"),
        (None, "TypeError: it gives no names with numbers, but None"),
        ({"two words": 1.0}, "TypeError: a number has a name of one word, not 'two words'"),
        ({7: 1.0}, "TypeError: a number has a name of one word, not 7"),
        ({"x" * 61: 1.0}, "TypeError: a number has a name of one word, not 'xxxx"),
        ({"gap": "1"}, "TypeError: gap is no number: '1'"),
        ({"gap": [1.0]}, "TypeError: gap is no number: [1.0]"),
        ({"gap": 10**400}, "OverflowError: int too large to convert to float"),
    ],
)
def test_numbers_that_are_none_are_one_line_and_the_run_goes_on(gives: Any, says: str) -> None:
    play, quiet = played(gives), played({})
    (failed,) = play.events(NumbersFailed)
    assert failed.version == 1
    assert failed.reason.startswith("strategy Own: numbers raises " + says)
    assert "\n" not in failed.reason
    assert play.finish is not None
    assert play.finish.outcome == "done"
    assert play.state.training.params.tobytes() == quiet.state.training.params.tobytes()
    assert play.events(StrategyNumbers) == []


@dataclass(frozen=True)
class Meddles(Sync):
    """Tries to have an influence where it is only asked for numbers."""

    how: str = ""

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        if not view.state.step:
            return {}
        vectors = {
            "weights": view.state.params, "moment": view.state.m, "gradient": results[0].vector,
            "losses": results[0].losses, "slot": view.state.slots["outer.velocity"],
        }  # fmt: skip
        assert view.sent is not None
        view.note("heard", 1.0)
        view.along(vectors["weights"])
        if self.how:
            vectors.get(self.how, view.sent)[0] = 7.0
        return {}


@pytest.mark.parametrize("how", ["", "weights", "moment", "gradient", "losses", "slot", "sent"])
def test_who_is_asked_for_numbers_can_change_nothing(how: str) -> None:
    momentum = "momentum:learning_rate=0.5"
    play, quiet = (
        begin(strategy, [A, B], steps=6, replicas=2, outer_optimizer=momentum)
        for strategy in (Meddles(how), Sync())
    )
    for each in (play, quiet):
        while each.state.closing is None:
            passes(each, 0.5)
            each.answers(A)
            each.answers(B)
    assert play.state.training.params.tobytes() == quiet.state.training.params.tobytes()
    assert play.notes == quiet.notes
    assert play.events(TensorNorms) == quiet.events(TensorNorms)
    failed = [event.reason for event in play.events(NumbersFailed)]
    says = "strategy Meddles: numbers raises ValueError: assignment destination is read-only (line"
    assert [reason.startswith(says) for reason in failed] == ([True] if how else [])


def test_nobody_is_asked_for_numbers_in_a_summary() -> None:
    play = played(KeyError("mine"), Level.SUMMARY)
    assert play.state.training.step == 6
    assert not play.events(NumbersFailed) + play.events(TensorNorms)


def test_what_is_told_is_bounded_and_finite() -> None:
    config = settings(100, BATCH)
    out = ActionBuffer(Level.ROUNDS)
    driver = RoundDriver(Sync(), config, initial_state(config, CORPUS))
    telemetry = Telemetry(out, driver, Replicas("", "", recipe_of(config)))
    telemetry.note({"nan": math.nan, "several": (1.0, 2.0), "counted": (1, 1, 2)})
    telemetry.note({"x" * 61: 1.0, "y" * 61: 1})
    for number in range(100):
        telemetry.note({"many": number, f"n{number}": float(number), "inf": math.inf})
    telemetry.updated(Look(), driver.state, driver.state, 0.0)
    (told,) = (event for event in out.actions if isinstance(event, StrategyNumbers))
    assert told.numbers == {f"n{number}": float(number) for number in range(62)}
    assert set(told.histograms) == {"counted", "many"}
    assert told.histograms["counted"] == {"1": 2, "2": 1}
    many = told.histograms["many"]
    assert [*many] == [*map(str, range(MOST_LABELS)), OTHERS]
    assert many[OTHERS] == 100 - MOST_LABELS
