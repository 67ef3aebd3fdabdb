"""Closed streams, text that is none, and what a terminal would obey: every program bears it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from microgpt.checkpoint import format as checkpoint_format
from microgpt.support.streams import visible
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import ROOT, TINY, Lab, Process
from tests.system.test_system_input import complaint
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)
SCRIPTS = ("train", "simulate", "chaos", "bench", "tape", "sample", "checkpoint", "replay")
PROGRAMS = [["-m", "coordinator"], ["-m", "worker"], *([f"scripts/{name}.py"] for name in SCRIPTS)]
SHOWN = ("worker", "scripts/train.py", "scripts/checkpoint.py")  # in make test
ESCAPES = "\x1b[31mred", "\x1b]0;title\x07", "\u202eodd", "a\x9bb"


def by_shell(lab: Lab, line: str, *command: str, **variables: str) -> Process:
    """Start Python with redirections of the shell."""
    whole = f"exec {shlex.join([sys.executable, *command])} {line}"
    return lab.start("/bin/sh", "-c", whole, name="shell", **variables)


@pytest.mark.parametrize(
    "program",
    [program if program[-1] in SHOWN else soak(program) for program in PROGRAMS],
    ids=lambda program: Path(program[-1]).stem,
)
def test_every_program_says_its_version(lab: Lab, program: list[str]) -> None:
    path = [str(ROOT / part) if part.endswith(".py") else part for part in program]
    process = lab.start(sys.executable, *path, "--version", name="version")
    assert process.wait() == 0
    assert process.out == "microgpt-data-parallel 0.1.0\n"
    assert process.err == ""


@pytest.mark.parametrize("closed", [soak(">&-"), soak("<&-"), soak("2>&-"), ">&- 2>&- <&-"])
def test_training_with_closed_streams(lab: Lab, reference: Reference, closed: str) -> None:
    flags = (*TINY, "--steps", "3", "--batch-size", "3", "--data", str(lab.data))
    script = str(ROOT / "scripts/train.py")
    more = ("--run-dir", "runs/it", "--workers", "1", "--engine", "scalar")
    train = by_shell(lab, closed, script, *flags, *more, FORCE_COLOR="1")
    assert train.wait() == 0, train.err
    ends_alike(lab.run_dir(), reference(3, 3))
    assert "Traceback" not in train.out + train.err
    logs = [path.read_text() for path in (lab.run_dir().path / "logs").iterdir()]
    assert not any("Traceback" in log for log in logs)


@pytest.mark.soak
@pytest.mark.parametrize("closed", [*map(soak, (">&-", "2>&-", "<&-")), "> /dev/full"])
def test_other_programs_with_closed_streams(lab: Lab, closed: str) -> None:
    for command, codes in (
        (("-m", "worker", "--connect", "tcp://127.0.0.1:1", "--patience", "0.1"), (0,)),
        (("-m", "coordinator", "--data", "missing.txt"), (1,)),
        ((str(ROOT / "scripts/tape.py"), "show", "--n-embd", "4"), (0, 1)),
        ((str(ROOT / "scripts/simulate.py"), "--schedules", "1", "--seed", "1"), (0, 1)),
    ):
        process = by_shell(lab, closed, *command)
        assert process.wait() in codes, process.err
        assert "Traceback" not in process.err + process.out
        assert len(process.err.splitlines()) <= 1


@pytest.mark.soak
def test_text_that_is_not_utf_8_is_refused_in_a_line(lab: Lab) -> None:
    odd = os.fsdecode(b"caf\xe9.txt")
    (lab.place / odd).write_text("anna\n")
    for process in (
        lab.train("--data", odd, run=""),
        lab.coordinator("--run-dir", odd, "--data", str(lab.data), run=""),
        lab.coordinator(run="", MICROGPT_DATA=odd),
        lab.worker("tcp://127.0.0.1:1", "--name", odd),
        lab.worker("tcp://127.0.0.1:1", MICROGPT_NAME=odd),
    ):
        assert process.wait() == 1
        assert "is not UTF-8: use another name or path" in complaint(process.err)
    assert not (lab.place / "runs").exists()


@pytest.mark.parametrize("name", ["\x1b[31mred", *map(soak, ("two\nlines", "x" * 201))])
def test_a_worker_is_called_by_something_that_can_be_read(lab: Lab, name: str) -> None:
    worker = lab.worker("tcp://127.0.0.1:1", "--name", name)
    assert worker.wait() == 1
    assert complaint(worker.err) == (
        "error: --name must be at most 200 letters, none of them invisible"
    )


def test_what_a_terminal_would_obey_in_data_is_shown_as_escapes(lab: Lab) -> None:
    lab.data.write_text("\n".join(ESCAPES) + "\n", encoding="utf-8")
    flags = (*TINY, "--steps", "2", "--batch-size", "2", "--data", str(lab.data))
    train = lab.train(*flags, "--workers", "1", "--engine", "scalar")
    assert train.wait() == 0, train.err
    assert "\\x1b" in train.out
    newest = str(lab.run_dir().newest)
    shown = [train]
    for more in (
        ("sample", newest), ("sample", newest, "--explain", "--per-head"),
        ("sample", newest, "--interactive"), ("checkpoint", "show", newest),
        ("checkpoint", "list", str(lab.run_dir().path)),
    ):  # fmt: skip
        shown.append(lab.script(*more))
        assert shown[-1].wait() == 0, shown[-1].err
    for process in shown:
        for text in (process.out, process.err):
            assert all(char.isprintable() or char == "\n" for char in text)
    exact = lab.script("sample", newest, "--json", "--num-samples", "40", "--seed", "1")
    assert exact.wait() == 0
    loaded = checkpoint_format.load(newest)
    texts = [json.loads(line)["text"] for line in exact.out.splitlines()]
    assert set("".join(texts)) <= set(loaded.tokenizer.chars)
    assert "\x1b" in "".join(texts)
    whole = lab.script("checkpoint", "show", newest, "--json")
    assert whole.wait() == 0
    assert json.loads(whole.out)["tokenizer"]["chars"] == loaded.tokenizer.chars


def test_visible_text() -> None:
    assert visible("\x1b[2Jé\u202e\n") == "\\x1b[2Jé\\u202e\\n"
    assert visible("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
