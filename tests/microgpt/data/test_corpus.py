"""The corpus: its order, its batches, and what is held out and never trained on."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.data.corpus import Corpus, num_held_out


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [
        (10, 0.0, 0),
        (10, 0, 0),
        (10, 0.1, 1),
        (10, 0.3, 3),  # int(10 * Fraction(0.3)) would be 2
        (100, 0.29, 29),  # int(100 * 0.29) would be 28
        (32033, 0.1, 3203),
        (19, 0.1, 1),
        (20, 0.1, 2),
        (3, 0.01, 1),
        (3, 1e-300, 1),
        (2, 0.5, 1),
        (2, 0.9999999999999999, 1),
        (10**6, 0.9999999999999999, 10**6 - 1),
    ],
)
def test_how_many_are_held_out(count: int, fraction: float, expected: int) -> None:
    assert num_held_out(count, fraction) == expected


@given(st.integers(2, 10**9), st.integers(1, 999))
def test_a_share_in_thousandths_is_exact(count: int, thousandths: int) -> None:
    exactly = Fraction(thousandths, 1000) * count
    assert num_held_out(count, thousandths / 1000) == max(
        1, exactly.numerator // exactly.denominator
    )


def test_something_is_left_to_train_on() -> None:
    with pytest.raises(ValueError, match="leaves none to train on"):
        Corpus(["anna"], 42, 0.1)
    assert len(Corpus(["anna"], 42)) == 1


@given(st.integers(2, 60), st.floats(0.001, 0.999), st.integers(0, 99))
def test_the_last_of_the_shuffled_order_is_held_out(count: int, fraction: float, seed: int) -> None:
    documents = [chr(ord("a") + i % 26) * (1 + i // 26) for i in range(count)]
    whole, split = Corpus(documents, seed), Corpus(documents, seed, fraction)
    order = list(documents)
    random.Random(seed).shuffle(order)
    encoded = [whole.tokenizer.encode(document) for document in order]
    held_out = num_held_out(count, fraction)
    assert (len(whole), len(split), split.num_training) == (count, count, count - held_out)
    assert [*split.validation] == encoded[count - held_out :]
    assert [*whole.validation] == []
    assert split.tokenizer == whole.tokenizer
    assert split.rng.getstate() == whole.rng.getstate()
    trained = [*split.batch(0, split.num_training)]
    assert trained == encoded[: count - held_out]
    assert [*split.batch(1, split.num_training)] == trained, "the batches go round"
    assert [*split.batch(3, 2)] == [trained[i % len(trained)] for i in (6, 7)]
    assert [*whole.batch(0, count)] == encoded
