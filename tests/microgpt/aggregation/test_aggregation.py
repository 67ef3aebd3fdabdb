"""Each rule against a reading of its paper, and the laws that hold for all of them."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.aggregation.base import AggregationError, Combined
from microgpt.aggregation.registry import AGGREGATIONS, describe_aggregation, load_aggregation
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import tree_sum
from tests.microgpt.aggregation import readings

QUICK = settings(derandomize=True, deadline=None, max_examples=40, database=None)
#: Eighths: sums and squares of a few are exact, and ties of distances come often.
EIGHTHS = st.integers(-32, 32).map(lambda number: number / 8)


def vectors_of(least: int, most: int) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(1, 4).flatmap(
        lambda size: st.lists(
            st.lists(EIGHTHS, min_size=size, max_size=size), min_size=least, max_size=most
        )
    )


def combine(spec: str, vectors: Sequence[Sequence[float]]) -> Combined:
    rule = load_aggregation(spec)
    return rule.combine([np.array(v, np.float64) for v in vectors], rule.init(len(vectors[0])))


def close(ours: Vector, theirs: Sequence[Fraction]) -> bool:
    """Eighths are added without an error: the multiplication by 1 / n makes two roundings."""
    return all(
        abs(Fraction(float(a)) - b) <= abs(b) * Fraction(2.0**-51)
        for a, b in zip(ours, theirs, strict=True)
    )


@QUICK
@given(vectors_of(1, 9))
def test_mean(vectors: list[list[float]]) -> None:
    combined = combine("mean", vectors)
    assert close(combined.vector, readings.mean(readings.exact(vectors)))
    assert combined.rejected == ()


def test_mean_is_the_tree_sum_of_a_batch() -> None:
    rng = np.random.default_rng(1)
    for count in range(1, 12):
        vectors = [rng.normal(size=5) for _ in range(count)]
        ours = load_aggregation("mean").combine(vectors, {}).vector
        assert ours.tobytes() == ((1 / count) * tree_sum(vectors)).tobytes()


@QUICK
@given(vectors_of(1, 9))
def test_median(vectors: list[list[float]]) -> None:
    combined = combine("median", vectors)
    assert combined.vector.tolist() == readings.median(readings.exact(vectors))
    assert combined.rejected == ()


@QUICK
@given(vectors_of(7, 10), st.integers(0, 3))
def test_trimmed_mean(vectors: list[list[float]], f: int) -> None:
    combined = combine(f"trimmed-mean:{f}", vectors)
    assert close(combined.vector, readings.trimmed_mean(readings.exact(vectors), f))
    assert combined.rejected == ()


@QUICK
@given(vectors_of(7, 10), st.integers(0, 2))
def test_krum(vectors: list[list[float]], f: int) -> None:
    combined = combine(f"krum:{f}", vectors)
    best, *others = readings.krum_order(readings.exact(vectors), len(vectors) - f - 2)
    assert combined.vector.tolist() == vectors[best]
    assert combined.rejected == tuple(sorted(others))


@QUICK
@given(vectors_of(7, 10), st.integers(0, 2), st.integers(0, 7))
def test_multi_krum(vectors: list[list[float]], f: int, m: int) -> None:
    combined = combine(f"multi-krum:f={f},m={m}", vectors)
    mean, rejected = readings.multi_krum(readings.exact(vectors), f, m or len(vectors) - f)
    assert close(combined.vector, mean)
    assert combined.rejected == rejected


def test_multi_krum_adds_in_the_order_of_places() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        vectors = [rng.normal(size=20) for _ in range(9)]
        combined = load_aggregation("multi-krum:2").combine(vectors, {})
        taken = [vector for i, vector in enumerate(vectors) if i not in combined.rejected]
        assert combined.vector.tobytes() == ((1 / 7) * tree_sum(taken)).tobytes()


@QUICK
@given(vectors_of(11, 13), st.integers(0, 2))
def test_bulyan(vectors: list[list[float]], f: int) -> None:
    combined = combine(f"bulyan:{f}", vectors)
    mean, rejected = readings.bulyan(readings.exact(vectors), f)
    assert close(combined.vector, mean)
    assert combined.rejected == rejected


@pytest.mark.parametrize("beta", [0.0, 0.9])
@pytest.mark.parametrize(("tau", "iterations"), [(10.0, 1), (0.3, 1), (0.3, 4)])
def test_centered_clip(tau: float, iterations: int, beta: float) -> None:
    rng = random.Random(5)
    rounds = [[[rng.gauss(0, 2) for _ in range(6)] for _ in range(5)] for _ in range(8)]
    rule = load_aggregation(f"centered-clip:tau={tau},iterations={iterations},momentum={beta}")
    slots = rule.init(6)
    for vectors, center in zip(
        rounds, readings.centered_clip(rounds, tau, iterations, beta), strict=True
    ):
        combined = rule.combine([np.array(vector) for vector in vectors], slots)
        slots = combined.slots
        assert combined.vector == pytest.approx(center, rel=1e-11, abs=1e-13)
        assert slots["center"].tobytes() == combined.vector.tobytes()
        momenta = {f"momentum.{place}" for place in range(5)} if beta else set()
        assert slots.keys() == {"center"} | momenta


def test_a_replica_that_is_lost_keeps_its_momentum() -> None:
    rule = load_aggregation("centered-clip")
    vectors = [np.array([1.0, 2.0]), np.array([3.0, 5.0])]
    both = rule.combine(vectors, rule.init(2))
    one = rule.combine(vectors[:1], both.slots)
    assert one.slots["momentum.1"].tolist() == [3.0, 5.0]


def test_centered_clip_needs_its_center() -> None:
    rule = load_aggregation("centered-clip")
    for slots in ({}, {"center": np.zeros(3)}):
        with pytest.raises(ValueError, match=r"slot center of the vectors' shape \(2,\)"):
            rule.combine([np.zeros(2)], slots)


# Laws.


@QUICK
@given(st.data())
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_equal_vectors_give_that_vector(name: str, data: st.DataObject) -> None:
    """To the bit without a mean; with one, (1 / n) * (x + ... + x) has log2(n) + 2 roundings."""
    number = st.floats(-1e300, 1e300).filter(lambda x: x == 0.0 or abs(x) > 1e-290)
    vector = np.array(data.draw(st.lists(number, min_size=1, max_size=4)))
    count = data.draw(st.integers(7, 12))
    rule = load_aggregation(name)
    slots = {"center": vector} if name == "centered-clip" else {}
    ours = rule.combine([vector] * count, slots).vector
    if name in ("median", "krum", "centered-clip") or (name == "mean" and count == 8):
        assert (ours == vector).all()
    assert ours == pytest.approx(vector, rel=6 * 2.0**-53, abs=0)


@QUICK
@given(st.data(), st.integers(1, 3))
@pytest.mark.parametrize("name", ["krum", "multi-krum"])
def test_f_far_outliers_have_no_influence(name: str, data: st.DataObject, f: int) -> None:
    """Of any size, up to the largest numbers there are: the same bits, and they are rejected."""
    rule = load_aggregation(f"{name}:{f}")
    rng = random.Random(data.draw(st.integers(0, 10**6)))
    honest = [np.array([rng.gauss(0, 1) for _ in range(6)]) for _ in range(rule.least() - f + 2)]
    places = sorted(rng.sample(range(len(honest) + f), f))

    def with_outliers() -> Combined:
        size = st.floats(1e3, 1.7e308) | st.floats(-1.7e308, -1e3)
        vectors = list(honest)
        for place in places:
            number = data.draw(size)
            vectors.insert(place, np.array([number] * 3 + [-number] * 3))
        return rule.combine(vectors, {})

    first, second = with_outliers(), with_outliers()
    assert first.vector.tobytes() == second.vector.tobytes()
    assert np.isfinite(first.vector).all()
    assert np.abs(first.vector).max() < 10
    assert set(places) <= set(first.rejected)
    assert first.rejected == second.rejected


@QUICK
@given(st.data(), st.integers(1, 3))
@pytest.mark.parametrize("name", ["trimmed-mean", "median", "bulyan"])
def test_f_liars_cannot_take_a_parameter_out_of_the_honest_range(
    name: str, data: st.DataObject, f: int
) -> None:
    """For Bulyan: not farther from the median than honest numbers are apart."""
    rule = load_aggregation(name if name == "median" else f"{name}:{f}")
    count = max(rule.least(), 2 * f + 1)
    honest = [[data.draw(st.floats(-4, 4)) for _ in range(2)] for _ in range(count - f)]
    liars = [[data.draw(st.floats(-1e307, 1e307)) for _ in range(2)] for _ in range(f)]
    ours = combine(describe_aggregation(rule), [*liars, *honest]).vector
    for place, number in enumerate(ours):
        column = [vector[place] for vector in honest]
        low, high = min(column), max(column)
        slack = (high - low if name == "bulyan" else 0.0) + 1e-14
        assert low - slack <= number <= high + slack


def test_a_liar_moves_centered_clip_by_tau_over_n() -> None:
    honest = [np.array([1.0, 0.0, 0.0])] * 4
    for size in (1e3, 1e100, 1.7e308):
        for spec in ("centered-clip:2", "centered-clip:tau=2,momentum=0"):
            rule = load_aggregation(spec)
            start = {"center": np.array([1.0, 0.0, 0.0])}
            ours = rule.combine([*honest, np.full(3, size)], start).vector
            step = ours - start["center"]
            assert math.hypot(*step) == pytest.approx(2.0 / 5, rel=1e-12)
            assert step == pytest.approx([2.0 / 5 / math.sqrt(3)] * 3, rel=1e-2)


def test_one_liar_moves_the_mean_anywhere() -> None:
    """What the other rules are for."""
    assert combine("mean", [[1.0]] * 9 + [[-1e6]]).vector[0] < -9e4


@QUICK
@given(st.data())
@pytest.mark.parametrize(
    "spec",
    ["mean", "median", "trimmed-mean:2", "krum:2", "multi-krum:2", "bulyan:0", "centered-clip"],
)
def test_the_order_of_vectors_permutes_what_is_rejected(spec: str, data: st.DataObject) -> None:
    """Without ties the same are rejected; sums in the order of places differ by roundings alone.

    Bulyan has ties at its end (see there) unless f is 0, when it chooses all.
    """
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    vectors = [rng.normal(size=5) for _ in range(12)]
    places = data.draw(st.permutations(range(12)))
    first = combine(spec, [vector.tolist() for vector in vectors])
    second = combine(spec, [vectors[place].tolist() for place in places])
    assert tuple(sorted(places[place] for place in second.rejected)) == first.rejected
    if spec in ("mean", "multi-krum:2", "centered-clip"):
        assert second.vector == pytest.approx(first.vector, rel=1e-13, abs=1e-14)
    else:
        assert second.vector.tobytes() == first.vector.tobytes()


def test_ties_go_to_the_lower_place() -> None:
    corners = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    vectors = [corners[0], *corners[1:], corners[0], corners[3]]
    assert combine("krum", vectors).rejected == (1, 2, 3, 4, 5)
    assert combine("multi-krum:f=1,m=2", vectors).rejected == (1, 2, 4, 5)
    turned = [corners[3], *corners[1:3], corners[0], corners[3], corners[0]]
    assert combine("krum", turned).vector.tolist() == corners[3]


@pytest.mark.parametrize("spec", ["median", "trimmed-mean", "bulyan"])
def test_zeros_lose_their_sign_where_numbers_are_sorted(spec: str) -> None:
    for zeros in ([-0.0] * 7, [-0.0, 0.0] * 4, [0.0, -0.0, -0.0] * 3):
        ours = combine(spec, [[zero] for zero in zeros]).vector
        assert ours.tobytes() == np.zeros(1).tobytes()


@pytest.mark.parametrize("name", ["mean", "median", "trimmed-mean"])
def test_many_parameters_are_as_few_ones(name: str) -> None:
    """Rules that look at each parameter on its own give each one bits of its own."""
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(7, 101))
    together = load_aggregation(name).combine(list(rows), {}).vector
    for place in range(101):
        alone = load_aggregation(name).combine(list(rows[:, place : place + 1]), {}).vector
        assert alone.tobytes() == together[place : place + 1].tobytes()


@pytest.mark.parametrize("name", AGGREGATIONS)
class TestEveryRule:
    def test_nothing_given_is_changed(self, name: str) -> None:
        rule = load_aggregation(name)
        rng = np.random.default_rng(4)
        vectors = [rng.normal(size=6) for _ in range(8)]
        slots = rule.combine(vectors, rule.init(6)).slots
        held = [*vectors, *slots.values()]
        before = [vector.tobytes() for vector in held]
        for vector in held:
            vector.flags.writeable = False
        combined = rule.combine(vectors, slots)
        assert [vector.tobytes() for vector in held] == before
        assert not any(np.shares_memory(combined.vector, vector) for vector in held)
        assert rule.combine(vectors, slots).vector.tobytes() == combined.vector.tobytes()

    def test_too_few_vectors_are_refused(self, name: str) -> None:
        rule = load_aggregation(name)
        enough = [np.ones(2)] * rule.least()
        rule.combine(enough, rule.init(2))
        with pytest.raises(ValueError, match=f"needs at least {rule.least()} vectors, and gets"):
            rule.combine(enough[1:], rule.init(2))

    def test_vectors_that_do_not_fit_are_refused(self, name: str) -> None:
        rule = load_aggregation(name)
        many = [np.ones(2)] * 9
        with pytest.raises(ValueError, match=r"the shape of vector 9 is \(3,\)"):
            rule.combine([*many, np.ones(3)], rule.init(2))
        with pytest.raises(ValueError, match=r"the shape of vector 0 is \(2, 1\)"):
            rule.combine([np.ones((2, 1))] * 9, rule.init(2))
        for wrong in (math.nan, math.inf):
            with pytest.raises(ValueError, match="vector 9 has numbers that are not finite"):
                rule.combine([*many, np.array([1.0, wrong])], rule.init(2))

    def test_what_overflows_makes_no_warning(self, name: str) -> None:
        rule = load_aggregation(name)
        huge = np.array([1.7e308, -1.7e308])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rule.combine([huge, -huge] * 5, rule.init(2))

    def test_its_text_makes_it_again(self, name: str) -> None:
        rule = load_aggregation(name)
        assert load_aggregation(describe_aggregation(rule)) == rule


def test_how_many_vectors_each_needs() -> None:
    assert {name: load_aggregation(name).least() for name in AGGREGATIONS} == {
        "mean": 1, "median": 1, "trimmed-mean": 3, "krum": 5, "multi-krum": 5, "bulyan": 7,
        "centered-clip": 1,
    }  # fmt: skip
    assert load_aggregation("krum:2").least() == 7
    assert load_aggregation("bulyan:2").least() == 11
    assert load_aggregation("multi-krum:f=1,m=8").least() == 8


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("crum", "there is no aggregation rule 'crum': did you mean krum? (or FILE.py:Class)"),
        ("krum:-1", "aggregation rule krum: f must be a whole number of at least 0, not -1"),
        ("bulyan:-1", "aggregation rule bulyan: f must be a whole number of at least 0, not -1"),
        ("trimmed-mean:0.2",
         "aggregation rule trimmed-mean: option f wants a whole number, not '0.2'"),
        ("multi-krum:n=3", "aggregation rule multi-krum has no option 'n': its options are f, m"),
        ("multi-krum:m=-1",
         "aggregation rule multi-krum: m must be a whole number of at least 0, not -1"),
        ("median:1", "aggregation rule median has no option '1': it has no options"),
        ("centered-clip:0", "aggregation rule centered-clip: tau must be positive, not 0.0"),
        ("centered-clip:momentum=1",
         "aggregation rule centered-clip: momentum must lie in [0, 1), not 1.0"),
        ("centered-clip:iterations=0",
         "aggregation rule centered-clip: iterations must be a whole number of at least 1, not 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(AggregationError) as failed:
        load_aggregation(spec)
    assert str(failed.value) == sentence
