"""``microgpt runs``: each folder is a line, whatever is in it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from coordinator.core.events import Event, Finished, Outcome, Waiting
from lab.report.ending import Ending, is_owned, read_ending
from lab.report.reading import RunError, read_run, read_steps
from lab.report.runs import main
from microgpt.distribution import Distribution
from tests.conftest import Reference
from tests.lab.report.directories import RUN, add_checkpoints, make_run, started, write_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the runs are."""
    return tmp_path / "runs"


def shown(folder: Path) -> list[str]:
    result = CliRunner().invoke(main, [str(folder)], catch_exceptions=False)
    return result.output.splitlines()


def listed(folder: Path) -> list[dict[str, Any]]:
    result = CliRunner().invoke(main, [str(folder), "--json"], catch_exceptions=False)
    return list(json.loads(result.output))


def test_a_run_is_told_in_numbers(folder: Path, reference: Reference) -> None:
    make_run(folder / "a", validations={2: 2.75, 4: 1.75}, conditions=["--slow 3x"])
    checkpoint = replace(reference(4, 2), run=RUN)
    add_checkpoints(folder / "a", [checkpoint])
    (run,) = listed(folder)
    assert run.pop("settings")["batch_size"] == 2
    assert run == {
        "run_dir": str(folder / "a"),
        "run": RUN,
        "strategy": "sync",
        "promise": "exact",
        "step": 4,
        "steps": 4,
        "loss": 1.5,
        "validation_loss": 1.75,
        "validation_step": 4,
        "documents_per_second": 4.0,
        "bytes_sent_per_step": 1000.0,
        "bytes_received_per_step": 500.0,
        "conditions": ["--slow 3x"],
        "ended": "finished",
        "reason": "all steps are done",
        "state_step": 4,
        "state_sha256": checkpoint.state_sha256,
        "checkpoint_problems": [],
        "problem": None,
    }


def test_only_settings_that_differ_are_shown(folder: Path) -> None:
    make_run(folder / "a")
    make_run(folder / "b", distribution=Distribution(replicas=2, compress="topk:0.05"))
    header, a, b = shown(folder)
    assert header.split()[:2] == ["run", "ended"]
    assert a.split("exact")[1].split() == ["-", "replicas=0"]
    assert b.split("exact")[1].split() == ["-", "replicas=2", "compress=topk:0.05"]


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        ((Finished(Outcome.DONE, "x"),), Ending("finished", "x")),
        ((Finished(Outcome.STOPPED, "x"), Waiting(3)), Ending("stopped", "x")),
        ((Finished(Outcome.FAILED, "x"),), Ending("failed", "x")),
        ((Waiting(0),), Ending("killed")),
        ((Finished(Outcome.STOPPED, "x"), started()), Ending("killed")),
        ((Finished(Outcome.STOPPED, "x"), started(), *[Waiting(0)] * 9000), Ending("killed")),
    ],
)
def test_how_it_ended(folder: Path, events: tuple[Event, ...], ending: Ending) -> None:
    assert read_ending(make_run(folder / "a", events=events)) == ending


def test_a_run_whose_folder_is_locked_goes_on(folder: Path) -> None:
    path = make_run(folder / "a", events=[Waiting(0)])
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert read_ending(path) == Ending("running")
    finally:
        os.close(descriptor)
    assert not is_owned(path)
    assert read_ending(path) == Ending("killed")


def test_what_is_no_run_is_a_line(folder: Path) -> None:
    make_run(folder / "good")
    (folder / "empty").mkdir()
    for name, text in {
        "json": "{", "list": "[]", "deep": "[" * 100_000, "training": '{"run": "x", "training": 7}',
        "binary": "\ud800",
    }.items():  # fmt: skip
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(text, errors="surrogatepass")
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / "config.json")  # it would be waited for
    make_run(folder / "loss", losses=[2.0, float("nan")])
    (folder / "a file").write_text("")
    (folder / "latest").symlink_to("good")
    found = {Path(run["run_dir"]).name: run["problem"] for run in listed(folder)}
    assert found == {
        "binary": f"{folder}/binary/config.json is not JSON",
        "deep": f"{folder}/deep/config.json is not JSON",
        "empty": f"there is no {folder}/empty/config.json: this is no run, or not yet",
        "good": None,
        "json": f"{folder}/json/config.json is not JSON",
        "list": f"{folder}/list/config.json is not the record of a run",
        "loss": f"{folder}/loss/metrics.jsonl, line 2: 'nan' is no loss",
        "pipe": f"{folder}/pipe/config.json cannot be read: it is not a file",
        "training": f"{folder}/training/config.json is not the record of a run",
    }
    assert len(shown(folder)) == 1 + len(found)


def test_what_a_terminal_would_obey_is_not_shown(folder: Path) -> None:
    make_run(folder / "a\x1b[31m", conditions=["--slow\n2x\x07"])
    (folder / "b\x1b[32m").mkdir()
    assert not [char for line in shown(folder) for char in line if not char.isprintable()]


def test_a_damaged_checkpoint_is_told(folder: Path) -> None:
    make_run(folder / "a")
    (folder / "a" / "checkpoint.msgpack").write_bytes(b"damaged")
    assert "damaged" in shown(folder)[1]
    (run,) = listed(folder)
    assert run["state_sha256"] is None
    assert len(run["checkpoint_problems"]) == 1


def test_a_line_that_is_being_written_is_no_step_yet(folder: Path) -> None:
    file = make_run(folder / "a") / "metrics.jsonl"
    with open(file, "a") as opened:
        opened.write('{"step": 5, "loss"')
    assert read_steps(file).numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("7", "it is no record of a step"),
        ('{"step": 1}', "it is no record of a step"),
        ('{"step": 0, "loss": 1.0}', "'0' is no step"),
        ('{"step": 1, "loss": 1}', "'1' is no loss"),
        ('{"step": 1, "loss": 1.0, "seconds": "x"}', "'x' is no seconds"),
        ('{"step": 1, "loss": 1.0, "bytes_sent": -1}', "'-1' is no bytes_sent"),
        ("x" * (1 << 20), "has a line of more than a mebibyte"),
    ],
)
def test_a_line_of_the_metrics_is_refused(tmp_path: Path, line: str, wrong: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=wrong):
        read_steps(tmp_path / "metrics.jsonl")


def test_settings_may_be_anything_in_json(tmp_path: Path) -> None:
    write_config(tmp_path, {"steps": 3, "odd": [[1]], "long": "x" * 999, "model": {"deep": {}}})
    settings = read_run(tmp_path).settings
    assert (settings["odd"], settings["deep"]) == ("[[1]]", "{}")
    assert settings["long"] == "x" * 200


def test_a_run_alone_is_listed_and_a_missing_folder_is_an_error(folder: Path) -> None:
    assert len(listed(make_run(folder / "a"))) == 1
    result = CliRunner().invoke(main, [str(folder / "none")])
    assert str(result.exception) == f"{folder}/none cannot be read: No such file or directory"
    assert shown(folder / "a" / "..")[1].split()[0] == "a"
