"""What could not be sent, saved or loaded is refused before the first step, in one line."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.net.router import MESSAGE_OVERHEAD
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.container import MAX_BYTES
from microgpt.config import (
    MAX_BATCH,
    MAX_LAYERS,
    MAX_PARAMETERS,
    MAX_SEED,
    MAX_STEPS,
    TrainingConfig,
)
from microgpt.data.dataset import load_dataset
from microgpt.data.documents import MAX_CHARACTERS, DatasetError, from_documents
from microgpt.data.packed import PackedDocuments
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.optim.adam import AdamConfig
from microgpt.parameters import num_params
from microgpt.protocol import messages
from microgpt.protocol.schema import CHECKS, MAX_COUNT
from microgpt.tokenizer import Tokenizer
from tests.marks import soak
from tests.processes import TINY, Lab
from tests.system.test_system_input import complaint

pytestmark = pytest.mark.timeout(300)
TINY_MODEL = GPTConfig(3, 1, 2, 1, 2)


def saved(config: TrainingConfig, step: int = 0) -> checkpoint_format.Checkpoint:
    """A checkpoint of a training of an alphabet of two letters."""
    zeros = bytes(8 * num_params(parameter_shapes(config.model)))
    version, words, gauss = random.Random(1).getstate()
    data: dict[str, str | int] = {"name": "x"}
    return checkpoint_format.Checkpoint(
        config, Tokenizer("ab"), data, "run", step, zeros, zeros, zeros, (version, words, gauss),
        next_document=min(step * config.batch_size, checkpoint_format.MAX_DOCUMENT),
    )  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(TINY_MODEL, steps=MAX_STEPS, batch_size=MAX_BATCH, seed=MAX_SEED),
        TrainingConfig(GPTConfig(3, MAX_LAYERS, 1, 1, 2)),
        TrainingConfig(TINY_MODEL, AdamConfig(1.7e308, 0.0, 0.999, 5e-324)),
    ],
    ids=["numbers", "layers", "adam"],
)
def test_the_largest_that_is_allowed_can_be_saved_and_loaded(config: TrainingConfig) -> None:
    largest = saved(config, config.steps)
    assert checkpoint_format.decode(checkpoint_format.encode(largest), "it") == largest


def test_the_largest_model_fits_a_message_and_a_checkpoint() -> None:
    assert 8 * MAX_PARAMETERS + MESSAGE_OVERHEAD <= messages.MAX_MESSAGE_BYTES
    assert 3 * 8 * MAX_PARAMETERS + MESSAGE_OVERHEAD <= MAX_BYTES
    shapes = parameter_shapes(GPTConfig(3, MAX_LAYERS, 1, 1, 2))
    assert len(shapes) <= messages.MAX_MATRICES
    assert sum(len(name) + 10 for name in shapes) < MESSAGE_OVERHEAD
    assert MAX_STEPS <= MAX_COUNT
    assert CHECKS["step"](MAX_STEPS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": MAX_STEPS + 1}, "steps must be at most 1,000,000,000,000,000"),
        ({"batch_size": MAX_BATCH + 1}, "batch_size must be at most 1,048,576"),
        ({"seed": MAX_SEED + 1}, "seed must be at most 18,446,744,073,709,551,615"),
        ({"seed": True}, "seed must be a whole number"),
        ({"model": GPTConfig(3, 10**18, 1, 1, 2)}, "n_layer must be at most 5,000"),
        ({"model": GPTConfig(3, 1, 10**6, 1, 2)}, "a model of 12,000,008,000,000 parameters"),
        ({"model": GPTConfig(3, 1, 1, 1, 10**18)}, "parameters is too large"),
    ],
)
def test_larger_is_refused(wrong: dict[str, object], message: str) -> None:
    good = TrainingConfig(TINY_MODEL)
    with pytest.raises(ValueError, match=message):
        replace(good, **wrong)  # type: ignore[arg-type]


def test_the_longest_line_and_a_longer_one() -> None:
    longest = "x" * MAX_CHARACTERS
    assert from_documents(["a", f"  {longest}  "]).documents == ("a", longest)
    with pytest.raises(DatasetError) as caught:
        from_documents(["a", "", longest + "y", "b"])
    assert str(caught.value) == (
        "line 3 of 'in memory' has 1,048,575 characters, and a document at most 1,048,574: put one "
        "document on each line"
    )
    documents = PackedDocuments.pack([[1_114_111] * (MAX_CHARACTERS + 2)])
    task = messages.Task("r", "l", 0, 0, 1, *documents.to_bytes(), round=0)
    assert messages.decode(messages.encode(task)) == task


def test_a_file_whose_name_no_checkpoint_can_hold(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    Path(odd).write_text("anna\n")
    with pytest.raises(DatasetError, match="is not UTF-8, and no checkpoint can name it"):
        load_dataset(odd)


SECONDS = "is not a number from 0.1 to 604800"


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        soak(["--seed", "18446744073709551616"], 2, "whole number from 0 to 18446744073709551615"),
        (["--steps", "9" * 5000], 2, "whole number from 1 to"),
        soak(["--steps", "1000000000000001"], 2, "from 1 to 1000000000000000"),
        soak(["--batch-size", "4611686018427387904"], 2, "from 1 to 1048576"),
        soak(["--checkpoint-every", "abc"], 2, "'abc' is not a whole number of at least 1"),
        soak(["--worker-timeout", "nan"], 2, SECONDS),
        soak(["--worker-timeout", "inf"], 2, SECONDS),
        soak(["--worker-timeout", "3000000"], 2, SECONDS),
        soak(["--linger", "inf"], 2, "'inf' is not a number from 0 to 604800"),
        (["--verify-fraction", "nan"], 2, "'nan' is not a number from 0 to 1"),
        soak(["--validation-fraction", "1"], 2, "'1' is not a number from 0 to below 1"),
        soak(["--learning-rate", "nan"], 2, "'nan' is not a finite number"),
        soak(["--beta1", "inf"], 2, "'inf' is not a finite number"),
        soak(["--beta2", "x"], 2, "'x' is not a finite number"),
        soak(["--eps", "-inf"], 2, "'-inf' is not a finite number"),
        (["--n-embd", "1000000", "--n-head", "1"], 1, "parameters is too large"),
        soak(["--n-layer", "1000000000000"], 1, "n_layer must be at most 5,000"),
    ],
)
def test_flags_beyond_the_bounds(lab: Lab, given: list[str], code: int, message: str) -> None:
    coordinator = lab.coordinator("--data", str(lab.data), *given, run="")
    assert coordinator.wait(30) == code, coordinator.err
    line = complaint(coordinator.err)
    assert message in line
    assert len(line) < 300
    assert not (lab.place / "runs").exists()


def test_a_line_that_is_too_long_is_named_before_the_run_begins(lab: Lab) -> None:
    lab.data.write_text("anna\n" + "x" * (MAX_CHARACTERS + 1) + "\n")
    train = lab.train("--data", str(lab.data), "--workers", "1", run="")
    assert train.wait() == 1
    assert f"line 2 of '{lab.data}' has 1,048,575 characters" in complaint(train.err)
    assert not (lab.place / "runs").exists()
    patience = lab.worker("tcp://127.0.0.1:1", "--patience", "inf")
    assert patience.wait() == 2
    assert "'inf' is not a number from 0 to 604800" in complaint(patience.err)


@pytest.mark.soak
def test_an_answer_with_very_many_losses_comes_through(lab: Lab) -> None:
    """Over TCP, where Linux takes in no more of a connection than we have allowed for."""
    size = ("--steps", "2", "--batch-size", "65536")
    coordinator = lab.coordinator(*TINY, *size, "--data", str(lab.data))
    lab.worker(lab.run_dir().endpoint(), "--engine", "tape")
    assert coordinator.wait(100) == 0, coordinator.err
    assert lab.run_dir().metrics[-1]["shards"] == 1
