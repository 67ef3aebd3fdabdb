"""What ``scripts/sample.py`` draws and shows: filters, explanations, JSON, other data."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from microgpt import explain, sampling
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint
from microgpt.model import gpt, softmax
from microgpt.sampling import ExhaustedError, Odds, candidates, generate, wanted
from tests.processes import NAMES, ROOT
from tests.tiny import save_tiny

SAMPLE = str(ROOT / "scripts/sample.py")


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SAMPLE, *arguments],
        capture_output=True, text=True, check=False, timeout=60, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(newest: Path) -> Checkpoint:
    return checkpoint_format.load(newest)


def error_line(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert code == 2 or done.stderr.count("\n") == 1
    return line


# Which letters are drawn among


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, [0, 1, 2, 3]),
        (4, 1.0, [0, 1, 2, 3]),
        (9, None, [0, 1, 2, 3]),
        (1, None, [1]),
        (2, None, [1, 3]),
        (3, None, [0, 1, 3]),  # 0 and 2 are equal: the smaller id stays
        (None, 0.01, [1]),
        (None, 0.5, [1]),
        (None, 0.51, [1, 3]),
        (None, 0.75, [1, 3]),
        (None, 0.8, [0, 1, 3]),
        (None, 1.0, [0, 1, 2, 3]),
        (2, 0.6, [1]),  # 0.5 of 0.75
        (2, 0.7, [1, 3]),
    ],
)
def test_candidates(top_k: int | None, top_p: float | None, kept: list[int]) -> None:
    weights = [0.125, 0.5, 0.125, 0.25]
    tokens, chances = candidates(weights, top_k, top_p)
    assert list(tokens) == kept
    assert list(chances) == [weights[token] for token in kept]


def test_candidates_keep_at_least_one() -> None:
    assert candidates([0.0, 0.0], None, 0.5) == ([0], [0.0])
    assert candidates([0.9, 0.1], 1, 1e-300) == ([0], [0.9])


def test_only_candidates_are_drawn_and_one_number_for_each(loaded: Checkpoint) -> None:
    params, model = loaded.state_dict(), loaded.training.model
    choices: list[dict[str, Any]] = [{"top_k": 3}, {"top_p": 0.4}, {"top_k": 5, "top_p": 0.7}]
    for options in choices:
        rng, counting = random.Random(3), random.Random(3)
        for text in generate(params, model, loaded.tokenizer, rng, num_samples=40, **options):
            tokens = loaded.tokenizer.encode(text)[: model.block_size + 1]
            odds = Odds(sampling.plain(params, model), model.vocab_size, 0.5)
            for at in range(1, len(tokens)):
                k, p = options.get("top_k"), options.get("top_p")
                allowed, _ = candidates(odds(tokens[:at]), k, p)
                assert tokens[at] in allowed
                counting.random()
        assert rng.getstate() == counting.getstate()


def test_odds_are_those_of_the_model_in_any_order_of_asking(loaded: Checkpoint) -> None:
    params, model = loaded.state_dict(), loaded.training.model
    odds, rng = Odds(sampling.plain(params, model), model.vocab_size, 0.7), random.Random(1)
    for _ in range(60):
        tokens = [rng.randrange(3) for _ in range(rng.randrange(1, model.block_size + 1))]
        keys: list[list[list[float]]] = [[] for _ in range(model.n_layer)]
        values: list[list[list[float]]] = [[] for _ in range(model.n_layer)]
        for position, token in enumerate(tokens):
            logits = gpt(params, model, token, position, keys, values)
        assert odds(tokens) == softmax([logit * 0.7**-1 for logit in logits])


def test_odds_recover_from_numbers_that_overflow() -> None:
    def extend(token: int, position: int) -> list[float]:
        if token == 9:
            raise OverflowError
        asked.append((token, position))
        return [0.0, 1.0]

    asked: list[tuple[int, int]] = []
    odds = Odds(extend, 2)
    odds([1, 2])
    with pytest.raises(OverflowError):
        odds([1, 9])
    odds([1, 2, 3])
    assert asked == [(1, 0), (2, 1), (2, 1), (3, 2)]


def test_top_k_and_top_p_from_the_command_line(newest: Path, loaded: Checkpoint) -> None:
    greedy = run(str(newest), "--top-k", "1", "--num-samples", "4").stdout.splitlines()
    assert len({line.partition(": ")[2] for line in greedy}) == 1
    assert run(str(newest), "--top-k", "99", "--top-p", "1").stdout == run(str(newest)).stdout
    narrow = run(str(newest), "--top-p", "0.3").stdout
    expected = generate(
        loaded.state_dict(), loaded.training.model, loaded.tokenizer, loaded.rng(), top_p=0.3
    )
    assert narrow.splitlines() == [f"sample {n:2d}: {text}" for n, text in enumerate(expected, 1)]


def test_filters_from_python(newest: Path) -> None:
    from microgpt import sample

    shown = run(str(newest), "--top-k", "2", "--top-p", "0.9", "--num-samples", "6").stdout
    texts = sample(newest, 6, top_k=2, top_p=0.9)
    assert shown.splitlines() == [f"sample {n:2d}: {text}" for n, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--top-k", "0"], 1, "top-k must be at least 1"),
        (["--top-k", "-3"], 1, "top-k must be at least 1"),
        (["--top-p", "0"], 1, "top-p must be above 0"),
        (["--top-p", "1.1"], 1, "top-p must be above 0 and at most 1"),
        (["--top-p", "nan"], 1, "top-p must be above 0"),
        (["--top-k", "x"], 2, "invalid int value"),
        (["--interactive", "--prompt", "a"], 2, "leave out --prompt"),
        (["--per-head"], 2, "give both"),
        (["--data", "x"], 2, "give both"),
        (["--engine", "gpu"], 2, "invalid choice"),
    ],
)
def test_bad_options(newest: Path, given: list[str], code: int, message: str) -> None:
    assert message in error_line(run(str(newest), *given), code)


# Which documents are wanted


def test_unique_and_unknown_documents() -> None:
    stream = iter(["anna", "bo", "anna", "eve", "bo", "eve", "karl", "anna", "lea"])
    assert list(wanted(stream, 4, {"eve"}, unique=True)) == ["anna", "bo", "karl", "lea"]
    stream = iter(["anna", "bo", "anna", "eve", "bo"])
    assert list(wanted(stream, 4, {"eve"}, unique=False)) == ["anna", "bo", "anna", "bo"]
    assert list(wanted(iter("abc"), 0, set(), unique=True)) == []


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PATIENCE", 50)
    found = wanted(iter(lambda: "anna", None), 2, set(), unique=True)
    assert list(islice(found, 1)) == ["anna"]
    with pytest.raises(ExhaustedError, match="found 1 of 2 samples, then none among 50"):
        next(found)


def test_unique_from_the_command_line(newest: Path) -> None:
    done = run(str(newest), "--unique", "--num-samples", "60", "--temperature", "0.2")
    texts = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert len(texts) == len(set(texts)) == 60
    done = run(str(newest), "--unique", "--num-samples", "9", "--top-k", "1")
    assert done.stdout.count("\n") == 1
    assert "found 1 of 9 samples" in error_line(done)


def test_documents_of_the_training_are_left_out(
    newest: Path, loaded: Checkpoint, tmp_path: Path
) -> None:
    # A model whose likeliest documents are known: its own samples as data.
    from microgpt.data.dataset import load_dataset

    data = tmp_path / "data.txt"
    first = run(str(newest), "--num-samples", "10").stdout.splitlines()
    data.write_text("\n".join(line.partition(": ")[2] or "x" for line in first) + "\n")
    trained = tmp_path / "c.msgpack"
    fingerprint = load_dataset(str(data)).fingerprint()
    checkpoint_format.save(trained, replace(loaded, data=fingerprint))
    known = set(data.read_text().split())

    everything = run(str(trained), "--num-samples", "60")
    texts = [line.partition(": ")[2] for line in everything.stdout.splitlines()]
    done = run(str(trained), "--num-samples", "20", "--not-in-training-data")
    assert done.returncode == 0, done.stderr
    found = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert found == [text for text in texts if text not in known][:20]
    moved = tmp_path / "moved.txt"
    data.rename(moved)
    lost = run(str(trained), "--not-in-training-data")
    assert "there is no file" in error_line(lost)
    assert "--data" in error_line(lost)
    told = run(str(trained), "--num-samples", "20", "--not-in-training-data", "--data", str(moved))
    assert told.stdout == done.stdout
    moved.write_text("anna\n")
    other = run(str(trained), "--not-in-training-data", "--data", str(moved))
    assert "is not what the model was trained on" in error_line(other)
    assert other.stdout == ""
    checkpoint_format.save(trained, replace(loaded, data={}))
    assert "does not say what data" in error_line(run(str(trained), "--not-in-training-data"))


def test_the_run_knows_its_own_data(newest: Path) -> None:
    done = run(str(newest), "--not-in-training-data", "--num-samples", "5")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & set(NAMES)


# Explanations and JSON


def test_explanations_are_those_of_the_model(loaded: Checkpoint) -> None:
    params, model = loaded.state_dict(), loaded.training.model
    odds = Odds(sampling.plain(params, model), model.vocab_size, 0.5)
    for text in ("", "an", "anna"):
        letters = explain.explain(params, model, loaded.tokenizer, text, 0.5)
        tokens = loaded.tokenizer.encode(text)
        ends = len(text) < model.block_size
        assert [x.letter for x in letters] == [*text, *([None] if ends else [])]
        for at, letter in enumerate(letters):
            weights = odds(tokens[: at + 1])
            assert letter.probability == weights[tokens[at + 1]]
            assert letter.rank == 1 + sum(w > letter.probability for w in weights)
            assert len(letter.attention) == model.n_layer
            for heads in letter.attention:
                assert len(heads) == model.n_head
                assert all(len(head) == at + 1 for head in heads)
                assert all(sum(head) == pytest.approx(1) for head in heads)
            [mean] = letter.averaged()
            columns = zip(*letter.attention[0], strict=True)
            assert mean == pytest.approx([sum(c) / len(c) for c in columns])
    with pytest.raises(ValueError, match="longer than the model's context"):
        explain.explain(params, model, loaded.tokenizer, "annaa")


def test_attention_is_what_decides(loaded: Checkpoint) -> None:
    """Without keys every position is looked at alike."""
    params, model = loaded.state_dict(), loaded.training.model
    params["layer0.attn_wk"] = [[0.0] * model.n_embd] * model.n_embd
    for at, letter in enumerate(explain.explain(params, model, loaded.tokenizer, "ann")):
        assert letter.attention == (((1 / (at + 1),) * (at + 1),) * model.n_head,)


def test_explanations_as_a_table(newest: Path, loaded: Checkpoint) -> None:
    plain = run(str(newest), "--num-samples", "3").stdout.splitlines()
    done = run(str(newest), "--num-samples", "3", "--explain")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("sample")] == plain
    text = plain[0].partition(": ")[2]
    assert lines[0] == plain[0]
    rows = lines[2 : 2 + len(text)]
    assert [row.split()[0] for row in rows] == list(text)
    letters = explain.explain(
        loaded.state_dict(), loaded.training.model, loaded.tokenizer, text, 0.5
    )
    for letter, row in zip(letters, rows, strict=False):
        assert f"{100 * letter.probability:.2f}%" in row
        assert row.partition("|")[2].split() == [f"{w:.2f}" for w in letter.averaged()[0]]
    heads = run(str(newest), "--num-samples", "1", "--explain", "--per-head").stdout.splitlines()
    model = loaded.training.model
    assert len(heads) == 2 + model.n_head * len(letters)


def test_json_says_the_same(newest: Path, loaded: Checkpoint) -> None:
    plain = run(str(newest)).stdout.splitlines()
    records = [json.loads(line) for line in run(str(newest), "--json").stdout.splitlines()]
    assert [f"sample {r['sample']:2d}: {r['text']}" for r in records] == plain
    done = run(str(newest), "--json", "--explain", "--per-head", "--num-samples", "2")
    for line in done.stdout.splitlines():
        record = json.loads(line)
        letters = explain.explain(
            loaded.state_dict(), loaded.training.model, loaded.tokenizer, record["text"], 0.5
        )
        assert [x["probability"] for x in record["letters"]] == [x.probability for x in letters]
        attention = json.loads(json.dumps([x.attention for x in letters]))
        assert [x["attention"] for x in record["letters"]] == attention


def test_alphabets_that_a_terminal_would_obey_or_lack(loaded: Checkpoint, tmp_path: Path) -> None:
    count = len(loaded.tokenizer.chars)
    chars = "\x07\x1b" + "".join(chr(0x1F600 + i) for i in range(count - 2))
    odd = tmp_path / "odd.msgpack"
    checkpoint_format.save(odd, replace(loaded, tokenizer=replace(loaded.tokenizer, chars=chars)))
    plain = run(str(odd), "--explain", "--temperature", "3")
    assert "\x1b" not in plain.stdout
    assert "\\x1b" in plain.stdout
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    texts = set()
    for env in (ascii_only, {"PYTHONIOENCODING": "utf-8"}):
        done = run(str(odd), "--json", "--temperature", "3", env=env, encoding="utf-8")
        texts.add(tuple(json.loads(line)["text"] for line in done.stdout.splitlines()))
    [same] = texts
    assert "\x1b" in "".join(same)
