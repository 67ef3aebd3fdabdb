"""Inventing documents: the draws of microgpt.py, prompts, temperatures, errors."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import StateDict, init_parameters, unflatten
from microgpt.sampling import chances, generate, plain
from microgpt.tokenizer import Tokenizer, UnknownCharacterError
from tests import reference_microgpt as reference

LETTERS = Tokenizer("abcde")
SMALL = GPTConfig(vocab_size=6, n_embd=8, n_head=2, block_size=6)
AB = Tokenizer("ab")


class Recorder(random.Random):
    """A generator that remembers the weights it was asked to draw with."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.asked: list[list[float]] = []

    def choices(self, population: Any, weights: Any = None, **options: Any) -> list[Any]:
        self.asked.append(list(weights))
        return super().choices(population, weights=weights, **options)


def draw(config: GPTConfig, seed: int = 1) -> list[float]:
    return [5 * x for x in init_parameters(parameter_shapes(config), random.Random(seed))]


SMALL_PARAMS = unflatten(draw(SMALL), parameter_shapes(SMALL))


def fixed(by_position: list[list[float]]) -> tuple[StateDict, GPTConfig]:
    """A model over a, b and BOS whose logits at each position are those given."""
    config = GPTConfig(vocab_size=3, n_embd=4, n_head=1, block_size=len(by_position))
    params = {
        name: [[0.0] * c for _ in range(r)] for name, (r, c) in parameter_shapes(config).items()
    }
    for position, logits in enumerate(by_position):
        params["wpe"][position][position] = 1e3  # rmsnorm makes it 2
        for token, logit in enumerate(logits):
            params["lm_head"][token][position] = logit / 2
    return params, config


def texts(model: tuple[StateDict, GPTConfig], seed: int = 0, **options: Any) -> list[str]:
    return list(generate(*model, AB, random.Random(seed), **options))


def test_the_likeliest_letters_win() -> None:
    model = fixed([[100.0, 0.0, 0.0], [0.0, 100.0, 0.0], [0.0, 0.0, 100.0]])
    assert texts(model, num_samples=50, temperature=1.0) == ["ab"] * 50


def test_documents_end_at_the_context() -> None:
    model = fixed([[100.0, 0.0, 0.0]] * 4)
    assert texts(model, num_samples=3) == ["aaaa"] * 3


def test_the_end_may_come_at_once() -> None:
    assert texts(fixed([[0.0, 0.0, 100.0]] * 2), num_samples=3) == [""] * 3


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 3.0])
def test_frequencies_follow_the_probabilities(temperature: float) -> None:
    logits = [1.0, 0.0, -0.5]
    model = fixed([logits])
    count = 4000
    drawn = Counter(texts(model, seed=7, num_samples=count, temperature=temperature))
    weights = [math.exp(logit / temperature) for logit in logits]
    for text, weight in zip(["a", "b", ""], weights, strict=True):
        p = weight / sum(weights)
        assert abs(drawn[text] - count * p) < 4 * math.sqrt(count * p * (1 - p))


def test_low_temperatures_take_the_likeliest_and_high_ones_anything() -> None:
    model = fixed([[1.0, 0.9, 0.8]])
    assert set(texts(model, num_samples=100, temperature=1e-3)) == {"a"}
    assert set(texts(model, num_samples=100, temperature=1e6)) == {"a", "b", ""}


def test_defaults_are_microgpts() -> None:
    drawn = list(generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(3)))
    assert len(drawn) == 20
    assert drawn == list(
        generate(
            SMALL_PARAMS,
            SMALL,
            LETTERS,
            random.Random(3),
            num_samples=20,
            temperature=0.5,
            prompt="",
        )
    )


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.0, 2.0])
def test_draws_are_those_of_the_reference(temperature: float) -> None:
    """Same weights to the bit, same documents, and the generator is left in the same state."""
    for config, tokenizer in (
        (SMALL, LETTERS),
        (GPTConfig(vocab_size=3, n_layer=2, n_embd=4, n_head=4, block_size=3), AB),
    ):
        flat = draw(config)
        ours, theirs = Recorder(9), Recorder(9)
        params = unflatten(flat, parameter_shapes(config))
        drawn = list(
            generate(params, config, tokenizer, ours, num_samples=10, temperature=temperature)
        )
        shape = reference.Shape(**config.to_dict())
        expected = reference.sample(shape, flat, theirs, 10, temperature)
        assert [tokenizer.encode_text(text) for text in drawn] == expected
        assert ours.asked == theirs.asked
        assert ours.getstate() == theirs.getstate()
        assert len(set(drawn)) > 3


def test_the_same_generator_gives_the_same_documents() -> None:
    first, second, other = (
        list(generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(seed))) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_a_generator_is_continued() -> None:
    rng = random.Random(5)
    parts = [
        text
        for count in (1, 0, 4, 2)
        for text in generate(SMALL_PARAMS, SMALL, LETTERS, rng, num_samples=count)
    ]
    whole = list(generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(5), num_samples=7))
    assert parts == whole


def test_documents_come_one_by_one() -> None:
    rng = random.Random(5)
    untouched = rng.getstate()
    documents = generate(SMALL_PARAMS, SMALL, LETTERS, rng)
    assert isinstance(documents, Iterator)
    assert rng.getstate() == untouched  # nothing is drawn before it is asked for
    first = next(documents)
    single = random.Random(5)
    assert [first] == list(generate(SMALL_PARAMS, SMALL, LETTERS, single, num_samples=1))
    assert rng.getstate() == single.getstate()


def test_the_global_generator_is_left_alone() -> None:
    before = random.getstate()
    list(generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), num_samples=3))
    assert random.getstate() == before


def test_no_documents() -> None:
    assert list(generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), num_samples=0)) == []


@pytest.mark.parametrize("prompt", ["a", "ba", "edcba"])
def test_documents_begin_with_the_prompt(prompt: str) -> None:
    rng = random.Random(1)
    drawn = list(generate(SMALL_PARAMS, SMALL, LETTERS, rng, prompt=prompt, temperature=1.0))
    assert all(text.startswith(prompt) for text in drawn)
    assert all(len(prompt) <= len(text) <= SMALL.block_size for text in drawn)
    assert len(set(drawn)) > 1


def test_the_prompt_is_context() -> None:
    """Letters given instead of drawn leave the rest of the document as it was drawn after them."""
    for seed in range(20):
        rng = random.Random(seed)
        [text] = generate(SMALL_PARAMS, SMALL, LETTERS, rng, num_samples=1)
        for length in range(min(len(text) + 1, SMALL.block_size)):
            ahead = random.Random(seed)
            for _ in range(length):
                ahead.random()  # one draw per letter
            [same] = generate(
                SMALL_PARAMS, SMALL, LETTERS, ahead, num_samples=1, prompt=text[:length]
            )
            assert same == text


def test_the_longest_prompt_leaves_room_for_one_letter() -> None:
    rng = random.Random(1)
    prompt = "a" * (SMALL.block_size - 1)
    for text in generate(SMALL_PARAMS, SMALL, LETTERS, rng, prompt=prompt):
        assert text.startswith(prompt)
        assert len(text) in (5, 6)


@pytest.mark.parametrize("length", [6, 7, 100])
def test_too_long_prompts(length: int) -> None:
    with pytest.raises(ValueError, match=f"prompt has {length} characters.*at most 5"):
        generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), prompt="a" * length)


@pytest.mark.parametrize(
    ("prompt", "named"), [("abz", "'z'"), ("A", "'A'"), ("ü", "'ü'"), (" ", "' '")]
)
def test_unknown_characters_are_named(prompt: str, named: str) -> None:
    with pytest.raises(UnknownCharacterError, match=named):
        generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), prompt=prompt)


@pytest.mark.parametrize("temperature", [-1.0, -5e-324, math.nan, math.inf, -math.inf, 1e-320])
def test_temperatures_are_0_or_positive_numbers(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be 0 or a positive number"):
        generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), temperature=temperature)


@pytest.mark.parametrize("temperature", [0.0, -0.0, 0])
def test_temperature_0_takes_the_likeliest_letter_and_of_equals_the_first(
    temperature: float,
) -> None:
    model = fixed([[1.0, 1.5, 0.5], [2.0, 1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.1, 0.2]])
    for seed in range(20):
        assert texts(model, seed, num_samples=3, temperature=temperature) == ["baa"] * 3
    assert texts(model, num_samples=1, temperature=temperature, top_k=2, top_p=0.1) == ["baa"]
    assert texts(model, num_samples=1, temperature=temperature, prompt="a") == ["aaa"]


def test_temperature_0_of_a_real_model_is_the_largest_logit() -> None:
    [text] = generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), num_samples=1, temperature=0)
    extend, tokens = plain(SMALL_PARAMS, SMALL), [LETTERS.bos]
    while len(tokens) <= SMALL.block_size:
        logits = extend(tokens[-1], len(tokens) - 1)
        if (token := max(range(6), key=logits.__getitem__)) == LETTERS.bos:
            break
        tokens.append(token)
    assert text == LETTERS.decode(tokens)


def test_temperature_0_of_numbers_that_overflow() -> None:
    for wrong in ([math.nan, 1.0], [1.0, math.nan], [math.inf, 0.0]):
        with pytest.raises(ValueError, match="finite"):
            chances(wrong, 0.0)
    assert chances([-math.inf, 0.0], 0.0) == [0.0, 1.0]


def test_a_negative_number_of_documents() -> None:
    with pytest.raises(ValueError, match="cannot be negative, as -1 is"):
        generate(SMALL_PARAMS, SMALL, LETTERS, random.Random(1), num_samples=-1)


def test_any_alphabet() -> None:
    tokenizer = Tokenizer.from_documents(["žluťoučký", "кот", "犬🐕"])
    config = GPTConfig(tokenizer.vocab_size, n_embd=4, n_head=2, block_size=5)
    params = unflatten(draw(config), parameter_shapes(config))
    drawn = list(generate(params, config, tokenizer, random.Random(1), prompt="🐕к"))
    assert all(text.startswith("🐕к") for text in drawn)
    assert set("".join(drawn)) <= set(tokenizer.chars)
