"""One step of training, its settings, and the loss on what is held out."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from microgpt import training
from microgpt.checkpoint.format import Validation
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus, num_held_out
from microgpt.engine.scalar import ScalarEngine
from microgpt.model import GPTConfig
from microgpt.optim.reduction import tree_sum
from microgpt.training import (
    PLAIN_ADAM,
    advance,
    from_checkpoint,
    initial_state,
    to_checkpoint,
    validation_loss,
)
from tests.processes import NAMES

MODEL = GPTConfig(Corpus(NAMES, 42).tokenizer.vocab_size, n_embd=2, n_head=1, block_size=4)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1, 2.5, float("nan"), float("inf"), True, "0.1"])
def test_fractions_that_cannot_be(fraction: Any) -> None:
    with pytest.raises(ValueError, match=r"validation_fraction must lie in \[0, 1\), not "):
        num_held_out(10, fraction)
    with pytest.raises(ValueError, match=r"validation_fraction must lie in \[0, 1\), not "):
        TrainingConfig(MODEL, validation_fraction=fraction)


def test_the_fraction_is_one_of_the_settings() -> None:
    config = TrainingConfig(MODEL, validation_fraction=0.25)
    assert config.to_dict()["validation_fraction"] == 0.25
    assert TrainingConfig.from_dict(config.to_dict()) == config != TrainingConfig(MODEL)
    assert type(TrainingConfig(MODEL, validation_fraction=0).validation_fraction) is float


@pytest.mark.parametrize("part", ["validation_fraction", "steps", "model", "adam"])
def test_settings_with_a_gap(part: str) -> None:
    plain = TrainingConfig(MODEL).to_dict()
    del plain[part]
    with pytest.raises(ValueError, match=part):
        TrainingConfig.from_dict(plain)
    for inner in ({"n_layer"}, {"beta1"}):
        plain = TrainingConfig(MODEL).to_dict()
        for group in ("model", "adam"):
            plain[group] = {k: v for k, v in plain[group].items() if k not in inner}
        with pytest.raises(ValueError, match=f"{inner.pop()} is missing"):
            TrainingConfig.from_dict(plain)


def test_the_mean_is_summed_like_that_of_a_batch() -> None:
    corpus = Corpus(NAMES, 42, 0.3)
    config = TrainingConfig(MODEL, steps=2, batch_size=5, validation_fraction=0.3)
    state = initial_state(config, corpus)
    result = ScalarEngine(MODEL).gradients(state.params, corpus.batch(0, 5))
    after = advance(config, state, result.gradient, result.losses)
    assert validation_loss(result.losses).hex() == after.losses[-1].hex()
    losses = [random.Random(1).random() for _ in range(7)]
    assert validation_loss(losses) == (1 / 7) * tree_sum(losses)


def test_a_step_and_a_checkpoint_keep_the_validation() -> None:
    corpus = Corpus(NAMES, 42, 0.3)
    config = TrainingConfig(MODEL, steps=2, batch_size=1, validation_fraction=0.3)
    state = initial_state(config, corpus)
    assert state.validation is None
    state = replace(state, validation=Validation(0, 3.5))
    after = advance(config, state, state.params, [1.0])
    assert after.validation == Validation(0, 3.5)
    saved = to_checkpoint(config, after, corpus.tokenizer, {}, "")
    assert from_checkpoint(saved).validation == after.validation
    without = to_checkpoint(config, replace(after, validation=None), corpus.tokenizer, {}, "")
    assert saved.state_sha256 == without.state_sha256, "it decides nothing"


@pytest.mark.parametrize("largest", [1.0, 1e200], ids=["usual", "with squares beyond binary64"])
def test_short_and_long_runs_take_the_same_steps(
    monkeypatch: pytest.MonkeyPatch, largest: float
) -> None:
    """Whether Adam is compiled depends on how much it has to do, and decides nothing."""
    config = TrainingConfig(MODEL, steps=3, batch_size=2)
    rng, start = random.Random(5), initial_state(config, Corpus(NAMES, 42))
    assert len(start.params) * config.steps < PLAIN_ADAM
    gradients = [start.params * rng.uniform(0.5, 2.0) for _ in range(config.steps)]
    gradients[1][3] = largest

    def run(limit: int) -> list[bytes]:
        monkeypatch.setattr(training, "PLAIN_ADAM", limit)
        state, seen = start, []
        for gradient in gradients:
            state = advance(config, state, gradient, [1.0, 2.0])
            seen += [state.params.tobytes(), state.m.tobytes(), state.v.tobytes()]
        return seen

    assert run(PLAIN_ADAM) == run(0)
