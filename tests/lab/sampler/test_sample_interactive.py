"""``scripts/sample.py --interactive``: from a pipe, in a terminal, with and without a library."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import random
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from microgpt import explain, sampling
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint
from microgpt.sampling import Odds, generate
from tests.processes import ROOT
from tests.tiny import save_tiny

SAMPLE = str(ROOT / "scripts/sample.py")


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(newest: Path) -> Checkpoint:
    return checkpoint_format.load(newest)


@pytest.fixture(scope="module")
def odds(loaded: Checkpoint) -> Odds:
    model = loaded.training.model
    return Odds(sampling.plain(loaded.state_dict(), model), model.vocab_size, 0.5)


def run(newest: Path, lines: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, SAMPLE, str(newest), "--interactive", *arguments],
        input=lines, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def every_document(odds: Odds, loaded: Checkpoint, beginning: tuple[int, ...]) -> dict[str, float]:
    """All documents with a beginning, and their probabilities: there are not many."""
    found: dict[str, float] = {}
    block_size, bos = loaded.training.model.block_size, loaded.tokenizer.bos

    def visit(letters: tuple[int, ...], probability: float) -> None:
        if len(letters) == block_size:
            found[loaded.tokenizer.decode(letters)] = probability
            return
        for token, p in enumerate(odds([bos, *letters])):
            if token == bos:
                found[loaded.tokenizer.decode(letters)] = probability * p
            else:
                visit((*letters, token), probability * p)

    visit(beginning, 1.0)
    return found


@pytest.mark.parametrize("text", ["an", "ann"])
def test_completions_are_the_likeliest_documents(odds: Odds, loaded: Checkpoint, text: str) -> None:
    beginning = tuple(loaded.tokenizer.encode_text(text))
    everything = every_document(odds, loaded, beginning)
    assert math.fsum(everything.values()) == pytest.approx(1)
    best = sorted(everything.items(), key=lambda item: -item[1])[:7]
    found = explain.completions(odds, loaded.tokenizer, 4, beginning, 7, effort=10_000)
    assert [name for name, _ in found] == [name for name, _ in best]
    assert [p for _, p in found] == pytest.approx([p for _, p in best])


def test_completions_take_no_more_than_the_effort(odds: Odds, loaded: Checkpoint) -> None:
    assert explain.completions(odds, loaded.tokenizer, 4, (), 5, effort=0) == []
    few = explain.completions(odds, loaded.tokenizer, 4, (), 500, effort=3)
    assert len(few) < 500


def test_next_letters(odds: Odds, loaded: Checkpoint) -> None:
    letters = explain.next_letters(odds, loaded.tokenizer, loaded.tokenizer.encode_text("an"))
    assert len(letters) == loaded.tokenizer.vocab_size
    assert math.fsum(p for _, p in letters) == pytest.approx(1)
    assert [p for _, p in letters] == sorted((p for _, p in letters), reverse=True)
    assert {letter for letter, _ in letters} == {*loaded.tokenizer.chars, None}


def test_lines_from_a_pipe(newest: Path, loaded: Checkpoint) -> None:
    done = run(newest, b"an\n\nbo", "--num-samples", "3")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3 * 5
    rng, expected = loaded.rng(), []
    for prompt in ("an", "", "bo"):
        texts = generate(
            loaded.state_dict(), loaded.training.model, loaded.tokenizer, rng, num_samples=3,
            prompt=prompt,
        )  # fmt: skip
        expected += [f"sample {n:2d}: {text}" for n, text in enumerate(texts, 1)]
    assert [line for line in lines if line.startswith("sample")] == expected
    assert sum(line.startswith("next letter: ") for line in lines) == 3


def test_what_cannot_begin_a_document_is_one_line_each(newest: Path) -> None:
    wrong = [b"zz7", b"annaanna", b"\xff\xfe", b"a" * 50_000, b"an\x00"]
    done = run(newest, b"an\n" + b"\n".join(wrong) + b"\nbo\n", "--num-samples", "1")
    assert done.returncode == 1
    assert done.stdout.count(b"sample  1: ") == 2
    errors = done.stderr.decode().splitlines()
    assert len(errors) == len(wrong)
    assert all(line.startswith("error: ") for line in errors)


def test_json_from_a_pipe(newest: Path, odds: Odds, loaded: Checkpoint) -> None:
    done = run(newest, b"an\n", "--json", "--num-samples", "2")
    first, *samples = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["text"] == "an"
    letters = explain.next_letters(odds, loaded.tokenizer, loaded.tokenizer.encode_text("an"))
    assert [(x["letter"], x["probability"]) for x in first["next"]] == letters
    assert [s["sample"] for s in samples] == [1, 2]


def test_nothing_to_read(newest: Path) -> None:
    done = run(newest, b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def in_terminal(newest: Path, keys: list[bytes], *python: str, **env: str) -> str:
    """What a terminal shows while the keys are pressed, one after the prompt's answer to another.

    Each entry of ``keys`` is typed when the output has not changed for a moment.
    """
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, 80))
    command = [sys.executable, *(python or (SAMPLE,)), str(newest), "--interactive"]
    child = subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, start_new_session=True,
        env={**os.environ, "TERM": "xterm", **env},
    )  # fmt: skip
    os.close(other)
    os.set_blocking(main, False)
    shown, quiet_since, deadline = b"", time.monotonic(), time.monotonic() + 60
    keys = list(keys)
    while time.monotonic() < deadline:
        try:
            data = os.read(main, 1 << 16)
            shown, quiet_since = shown + data, time.monotonic()
            if b"\x1b[6n" in data:  # where is the cursor?
                os.write(main, b"\x1b[1;1R")
        except BlockingIOError:
            if b"Ctrl-D ends" in shown and keys and time.monotonic() - quiet_since > 0.4:
                os.write(main, keys.pop(0))
                quiet_since = time.monotonic()
            time.sleep(0.02)
        except OSError:  # the other end has gone
            break
    else:
        child.kill()
    os.close(main)
    assert child.wait(10) == 0, shown
    return shown.decode(errors="replace")


def test_a_terminal_with_completion(newest: Path, odds: Odds, loaded: Checkpoint) -> None:
    pytest.importorskip("prompt_toolkit")
    shown = in_terminal(newest, [b"an", b"\r", b"zz7", b"\r", b"\x04"])
    assert "next: " in shown
    beginning = loaded.tokenizer.encode_text("an")
    [(likeliest, _)] = explain.completions(odds, loaded.tokenizer, 4, beginning, 1)
    assert likeliest in shown
    assert "next letter: " in shown
    assert "sample  5: an" in shown
    assert "the model knows no" in shown
    assert "Traceback" not in shown


WITHOUT = """
import runpy, sys
sys.modules["prompt_toolkit"] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_terminal_without_the_library(newest: Path) -> None:
    shown = in_terminal(newest, [b"an\r", b"\x04"], "-c", WITHOUT, SAMPLE)
    assert "pip install prompt_toolkit" in shown
    assert "sample  5: an" in shown
    assert "Traceback" not in shown


def test_completion_and_toolbar(newest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = pytest.importorskip("prompt_toolkit.document")
    completion = pytest.importorskip("prompt_toolkit.completion")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lab.sampler.options import parse
    from lab.sampler.prompt import Names, toolbar
    from lab.sampler.source import Source

    source = Source(parse([str(newest), "--interactive"]))
    names, event = Names(source), completion.CompleteEvent()
    found = list(names.get_completions(document.Document("an"), event))
    assert found
    assert all(c.text.startswith("an") and c.start_position == -2 for c in found)
    assert list(names.get_completions(document.Document("z7"), event)) == []
    assert toolbar(source, "an").startswith("next: ")
    assert "knows no" in toolbar(source, "z7")
    assert "at most 3" in toolbar(source, "anna")


def test_lines_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lab.sampler import interactive

    rng: Any = random.Random(1)
    monkeypatch.setattr(interactive, "MAX_LINE", 5)
    for _ in range(200):
        texts = ["x" * rng.randrange(13) for _ in range(rng.randrange(5))]
        end = rng.choice(["\n", "\r\n"])
        got = list(interactive.piped(io.StringIO("".join(t + end for t in texts), newline="")))
        assert [line[:5] for line in got] == [(t + end)[:5].rstrip("\r\n") for t in texts]
