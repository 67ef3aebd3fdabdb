"""Whatever a model does, its program has the bits of its operations one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from microgpt import model
from microgpt.engine.base import Engine, NonFiniteError
from microgpt.engine.fuse import fuse
from microgpt.engine.scalar import ScalarEngine
from microgpt.engine.tape_engine import TapeEngine
from microgpt.engine.tracer import record
from microgpt.parameters import num_params
from tests.microgpt.engine.test_tracer import assert_same_tapes, plainly
from tests.random_models import CONFIG, SHAPES, random_forward

#: Models in which a product and a choice use the same weight several times, in every order.
CHOSEN = (1609, 2104, 2107)
SEEDS = [(*range(30), *CHOSEN), pytest.param(range(2000), marks=pytest.mark.soak)]


def outcome(engine: Engine, seed: int) -> Any:
    """The bits of losses and gradient for four documents, or which has none."""
    rng = random.Random(seed)
    documents = [[rng.randrange(3) for _ in range(rng.randint(2, 5))] for _ in range(4)]
    params = np.random.default_rng(seed).uniform(-0.5, 0.5, num_params(SHAPES))
    try:
        result = engine.gradients(params, documents)
    except NonFiniteError as error:
        return error.document
    return result.losses, result.gradient.tobytes()


@pytest.mark.parametrize("seeds", SEEDS, ids=["some", "many"])
def test_engines_agree_about_random_models(seeds: Iterable[int]) -> None:
    for seed in seeds:
        forward = random_forward(seed)
        tape = outcome(TapeEngine(CONFIG, forward, SHAPES), seed)
        assert tape == outcome(ScalarEngine(CONFIG, forward, SHAPES), seed), seed


def test_rows_at_once_have_the_bits_of_rows_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tapes may differ: a row may also be a part of a longer sum."""
    for seed in range(15):
        forward = random_forward(seed)
        at_once = outcome(TapeEngine(CONFIG, forward, SHAPES), seed)
        with monkeypatch.context() as patch:
            patch.setattr(model, "each_row", plainly)
            one_by_one = outcome(TapeEngine(CONFIG, forward, SHAPES), seed)
        assert at_once == one_by_one, seed


def test_a_recording_is_always_the_same() -> None:
    for seed in range(20):
        tapes = (fuse(record(CONFIG, random_forward(seed), SHAPES)) for _ in range(2))
        assert_same_tapes(*tapes)
