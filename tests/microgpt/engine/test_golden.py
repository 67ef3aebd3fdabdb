"""The record of a whole run: ``microgpt.py``'s own, step by step.

``data/golden_default.json`` holds the documents that 1000 steps of batch size 1 read, the run's
losses under this project's arithmetic contract to the bit, and what the original program prints.
"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from microgpt.engine import make_engine
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.optim import adam, adam_compiled
from microgpt.parameters import init_parameters, sha256, to_bytes, unflatten
from microgpt.sampling import generate
from microgpt.tokenizer import Tokenizer
from tests.processes import ROOT

STEPS = 1000


@pytest.fixture(scope="module")
def golden() -> Any:
    return json.loads((ROOT / "tests" / "data" / "golden_default.json").read_text())


def start(golden: Any) -> tuple[random.Random, GPTConfig, Tokenizer, list[float]]:
    """As at the start of a run. What a shuffle draws depends on the number of documents only."""
    rng = random.Random(golden["seed"])
    rng.shuffle(list(range(golden["num_docs"])))
    tokenizer = Tokenizer(golden["chars"])
    config = GPTConfig(tokenizer.vocab_size)
    return rng, config, tokenizer, init_parameters(parameter_shapes(config), rng)


def test_the_tape_engine_repeats_the_whole_record(golden: Any) -> None:
    rng, config, tokenizer, initial = start(golden)
    engine = make_engine("tape", config)
    params = np.array(initial)
    losses: list[float] = []
    state = adam_compiled.init(len(params))
    for step in range(STEPS):
        result = engine.gradients(params, [tokenizer.encode(golden["documents"][step])])
        losses += result.losses
        params, state = adam_compiled.update(
            adam.AdamConfig(), params, result.gradient, state, step, STEPS
        )
    assert [loss.hex() for loss in losses] == golden["losses_hex"]
    assert [f"{loss:.4f}" for loss in losses] == golden["microgpt_losses"]
    assert sha256(to_bytes(params.tolist())) == golden["params_sha256_le_f64"]
    rows = unflatten(params.tolist(), parameter_shapes(config))
    assert list(generate(rows, config, tokenizer, rng)) == golden["microgpt_samples"]


def test_the_scalar_engine_repeats_the_first_steps(golden: Any) -> None:
    _, config, tokenizer, params = start(golden)
    engine = make_engine("scalar", config)
    state = adam.init(len(params))
    for step in range(8):
        result = engine.gradients(np.array(params), [tokenizer.encode(golden["documents"][step])])
        assert result.losses[0].hex() == golden["losses_hex"][step]
        params, state = adam.update(
            adam.AdamConfig(), params, result.gradient.tolist(), state, step, STEPS
        )
