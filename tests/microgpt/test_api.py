"""The Python API for notebooks: ``microgpt.train`` and friends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import microgpt
from microgpt.checkpoint.format import CheckpointError
from microgpt.data.corpus import Corpus
from microgpt.data.documents import DatasetError
from microgpt.engine import ENGINES
from microgpt.engine.scalar import ScalarEngine
from microgpt.loss_curve import in_words, loss_curve
from microgpt.model import GPTConfig
from microgpt.parameters import from_bytes
from microgpt.sampling import generate
from microgpt.strategies.base import StrategyError
from tests.strategies_of_users import EverySecond

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["anna", "bob", "carla", "dora", "emil"]
SMALL = {"steps": 4, "batch_size": 3, "n_embd": 8, "n_head": 2, "block_size": 6}


def train(**settings: object) -> microgpt.TrainingResult:
    return microgpt.train(NAMES, **{**SMALL, **settings})  # type: ignore[arg-type]  # a test's map


def test_training_gives_state_dict_losses_and_samples() -> None:
    seen: list[tuple[int, float]] = []
    result = train(progress=lambda step, loss: seen.append((step, loss)))
    assert seen == list(enumerate(result.losses, 1))
    assert len(result.losses) == 4
    assert result.losses[-1] < result.losses[0]
    vocab_size = len(set("".join(NAMES))) + 1
    assert len(result.state_dict["wte"]) == vocab_size
    assert len(result.state_dict["layer0.mlp_fc2"][0]) == 32
    assert len(result.sample(5)) == 5
    assert result.sample(3, seed=1) == result.sample(3, seed=1)
    assert all(name.startswith("an") for name in result.sample(3, prompt="an"))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_state(engine: str) -> None:
    assert train(engine=engine).checkpoint.state_sha256 == train().checkpoint.state_sha256


@pytest.mark.parametrize("engine", ENGINES)
def test_held_out_documents_are_evaluated(engine: str, tmp_path: Path) -> None:
    result = train(validation_fraction=0.4, eval_every=3, engine=engine)
    assert [step for step, _ in result.validations] == [3, 4]
    last = result.validations[-1]
    assert result.checkpoint.validation == last
    corpus = Corpus(NAMES, 42, 0.4)
    assert (corpus.num_training, len(corpus.validation)) == (3, 2)
    params = np.array(from_bytes(result.checkpoint.weights))
    losses = ScalarEngine(result.checkpoint.training.model).losses(params, corpus.validation)
    assert last.loss.hex() == ((1 / 2) * (losses[0] + losses[1])).hex()
    result.save(tmp_path / "c")
    assert microgpt.load_checkpoint(tmp_path / "c").validation == last
    seldom = train(validation_fraction=0.4, engine=engine)
    assert [step for step, _ in seldom.validations] == [4]
    assert seldom.checkpoint.state_sha256 == result.checkpoint.state_sha256
    assert result.losses != train().losses
    assert train().validations == ()


def test_a_run_has_the_validations_of_its_metrics(tmp_path: Path) -> None:
    result = train(validation_fraction=0.4, eval_every=2)
    result.save(tmp_path / "checkpoint.msgpack")
    valid = {step: {"validation_loss": loss} for step, loss in result.validations}
    lines = [
        json.dumps({"step": step, "loss": loss, **valid.get(step, {})})
        for step, loss in enumerate([*result.losses, 9.0], 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert microgpt.load_run(tmp_path) == result


def test_a_saved_result_samples_the_same(tmp_path: Path) -> None:
    result = train()
    path = tmp_path / "checkpoint.msgpack"
    result.save(path)
    assert microgpt.load_checkpoint(path) == result.checkpoint
    assert microgpt.sample(path, 4) == result.sample(4) == microgpt.sample(result.checkpoint, 4)
    state_dict, config = result.state_dict, result.checkpoint.training.model
    tokenizer, rng = result.checkpoint.tokenizer, result.checkpoint.rng()
    assert list(generate(state_dict, config, tokenizer, rng, num_samples=4)) == result.sample(4)


def test_training_from_a_file_is_training_from_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES) + "\n")
    from_file = microgpt.train(str(path), **SMALL)  # type: ignore[arg-type]  # a test's map
    assert from_file.checkpoint.state_sha256 == train().checkpoint.state_sha256
    assert from_file.checkpoint.data["name"] == str(path)


def test_a_path_and_a_generator_are_data_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "names"  # also where --data would mean other ones
    path.write_text("\n".join(NAMES) + "\n")
    expected = train().checkpoint.state_sha256
    monkeypatch.chdir(tmp_path)
    for data in (path, Path("names"), (name for name in NAMES), iter(NAMES), dict.fromkeys(NAMES)):
        result = microgpt.train(data, **SMALL)  # type: ignore[arg-type]  # a test's map
        assert result.checkpoint.state_sha256 == expected
    with pytest.raises(DatasetError, match="there is no file"):
        microgpt.train(tmp_path / "none")


def test_a_result_is_shown_in_one_line_and_a_curve() -> None:
    result = train(validation_fraction=0.4, eval_every=2)
    first, last, valid = result.losses[0], result.losses[-1], result.validations[-1].loss
    summary = (
        f"4 steps, loss {first:.4f} to {last:.4f}, validation loss {valid:.4f}, "
        f"{result.checkpoint.num_params:,} parameters, data 'in memory'"
    )
    assert repr(result) == f"TrainingResult({summary})"
    assert len(repr(result.checkpoint)) < 150
    html = ElementTree.fromstring(result._repr_html_())  # noqa: S314  # our own
    assert html.findtext("p") == summary
    svg = html.find("{*}svg")
    assert svg is not None
    assert svg.get("role") == "img"
    label = svg.get("aria-label", "")
    assert label == svg.findtext("{*}title")
    assert label.startswith(f"Loss curve: 4 steps, loss {first:.4f} to {last:.4f}")
    training, validation = svg.findall("{*}polyline")
    assert len(training.get("points", "").split()) == 4
    assert len(validation.get("points", "").split()) == 2


def test_curves_of_any_losses_stay_in_their_frame() -> None:
    for losses in ([2.5], [1.0, 1.0], [0.5] * 3 + [1.7e308], [5e-324, 0.0], [3.0] * 100_000):
        svg = ElementTree.fromstring(loss_curve(losses, [(1, 2.0)]))  # noqa: S314  # our own
        for line in svg.findall("{*}polyline"):
            places = [place.split(",") for place in line.get("points", "").split()]
            assert 2 <= len(places) <= 240
            assert all(0 <= float(x) <= 480 and 0 <= float(y) <= 200 for x, y in places)
        assert len(ElementTree.tostring(svg)) < 6000
    assert loss_curve([], []) == ""
    assert in_words([], []) == "no steps yet"


@pytest.mark.parametrize("data", [[1, 2], b"anna", ["an", None], ["\ud800"]])
def test_documents_that_are_no_text(data: object) -> None:
    with pytest.raises(DatasetError, match=r"a document (is a text, not|holds half)"):
        microgpt.train(data)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be"),
        ({"n_embd": 10, "n_head": 4}, "n_embd .10. must be a multiple of n_head .4."),
        ({"engine": "abacus"}, "there is no engine 'abacus'"),
        ({"beta1": 1.0}, "beta1 must lie in"),
        ({"validation_fraction": -0.1}, "validation_fraction must lie in"),
        ({"eval_every": 0}, "eval_every must be at least 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(**settings)


def test_unusable_data() -> None:
    with pytest.raises(DatasetError, match="line break"):
        microgpt.train(["two\nlines"])
    with pytest.raises(DatasetError, match="is empty"):
        microgpt.train([])


def test_no_run_no_result(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        microgpt.load_run(tmp_path)


def test_importing_the_library_loads_no_numpy() -> None:
    code = (
        "import sys, microgpt.checkpoint.format, microgpt.sampling; print('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_config_made_by_hand_is_checked() -> None:
    with pytest.raises(ValueError, match="block_size must be a whole number"):
        GPTConfig(27, block_size=0)


def test_a_strategy_of_a_file_is_trained_with_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ROOT / "tests/strategies_of_users.py"
    result = train(strategy=f"{file}:EverySecond", strategy_options={"every": "3"})
    training = result.checkpoint.training
    assert (training.strategy, training.strategy_options) == (f"{file}:EverySecond", {"every": 3})
    assert (result.checkpoint.step, result.checkpoint.next_document) == (4, 15)
    assert result.checkpoint.state_sha256 == train(strategy=EverySecond(3)).checkpoint.state_sha256
    assert result.checkpoint.state_sha256 != train().checkpoint.state_sha256
    monkeypatch.chdir(file.parent)
    there = train(strategy="strategies_of_users.py:EverySecond", strategy_options={"every": 3})
    assert there.checkpoint == result.checkpoint
    given = train(strategy=EverySecond(3)).checkpoint.training
    assert given == training
    assert train(strategy="sync").checkpoint == train().checkpoint


def test_a_strategy_that_cannot_be_is_one_sentence() -> None:
    with pytest.raises(StrategyError, match="did you mean sync"):
        train(strategy="sinc")
    with pytest.raises(ValueError, match="given by its name"):
        train(strategy=EverySecond(), strategy_options={"every": 3})
