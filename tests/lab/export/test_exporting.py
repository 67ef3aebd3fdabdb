"""``microgpt export``: real runs handed to TensorBoard's files and to a tracker's functions."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import SessionLog

from coordinator.core.events import TensorNorms
from lab.event_reader import read_events
from lab.report.reading import read_run
from lab.report.samples import read_samples
from tests.lab.export.event_files import EventFile
from tests.marks import soak
from tests.processes import TINY, Lab, eventually

STEPS = 6
FLAGS = ("--steps", str(STEPS), "--workers", "1", "--engine", "scalar", "--events", "rounds", *TINY)
RECORDING = Path(__file__).parent / "recording.py"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has held-out documents, too."""
    lab = Lab(tmp_path_factory.mktemp("record"))
    held_out = ("--validation-fraction", "0.2", "--eval-every", "3")
    assert lab.train(*FLAGS, "--data", str(lab.data), *held_out).wait() == 0
    lab.close()
    return lab.place / "runs/it"


def with_recorder(lab: Lab) -> None:
    """Programs that start from now on find libraries that write down how they are called."""
    libraries = lab.place / "libraries"
    libraries.mkdir()
    for library in ("trackio", "wandb"):
        shutil.copy(RECORDING, libraries / f"{library}.py")
    lab.env["PYTHONPATH"] += f":{libraries}"
    lab.env["CALLS"] = str(lab.place / "calls")


def calls(lab: Lab) -> list[Any]:
    path = lab.place / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_tensorboard_gets_every_number_of_the_record(lab: Lab, record: Path) -> None:
    process = lab.script("export", str(record), "--tensorboard")
    assert process.wait() == 0
    assert process.out == f"it is exported up to step {STEPS}\n"
    found, run = EventFile(record / "tensorboard"), read_run(record)
    steps = run.steps
    assert found.scalars["loss"] == close(zip(steps.numbers, steps.losses, strict=True))
    assert found.scalars["validation_loss"] == close(steps.validations)
    assert [int(value) for _, value in found.scalars["bytes_received"]] == steps.received
    told = [r.event for r in read_events(record) if isinstance(r.event, TensorNorms)]
    expected = [(norms.version, norms.update[norms.tensors.index("wpe")]) for norms in told]
    assert expected
    assert found.scalars["update_norm/wpe"] == close(expected)
    [(_, settings)] = found.texts["settings/text_summary"]
    assert "| n\\_embd | 2 |" in settings.splitlines()
    assert found.texts["samples/text_summary"] == [
        (step, "\n".join(f"- {document or '(nothing)'}" for document in documents))
        for step, documents in read_samples(run).invented
    ]
    assert "_hparams_/session_start_info" in found.tags
    times = [event.wall_time for event in found.all if event.summary.value[:1] and event.step > 3]
    assert times == sorted(times)


def test_an_earlier_export_does_not_count_any_more(lab: Lab, record: Path) -> None:
    """TensorBoard forgets what a session that begins at step 0 has before it."""
    assert lab.script("export", str(record), "--tensorboard", "all").wait() == 0
    assert [entry.name for entry in (lab.place / "all").iterdir()] == ["it"]
    version, start, *_ = EventFile(lab.place / "all/it").all
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (SessionLog.START, 0)


def close(pairs: Iterable[tuple[int, float]]) -> list[Any]:
    """As single-precision numbers, which is what such files hold."""
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in pairs]


@pytest.mark.parametrize("library", ["trackio", soak("wandb")])
def test_trackers_are_called_by_what_they_have_in_common(
    lab: Lab, record: Path, library: str
) -> None:
    with_recorder(lab)
    assert lab.script("export", str(record), f"--{library}", "names").wait() == 0
    (_, project, name, config), *logged, last = calls(lab)
    assert (project, name) == ("names", "it")
    assert (config["n_embd"], config["strategy"], config["steps"]) == (2, "sync", STEPS)
    steps = read_run(record).steps
    losses = [(step, values["loss"]) for _, step, values in logged if "loss" in values]
    assert losses == [*zip(steps.numbers, steps.losses, strict=True)]
    order = [step for _, step, _ in logged]
    assert order == sorted(order)
    assert [values for *_, values in logged if "samples/step 6" in values]
    assert last == ["finish"]


@pytest.mark.soak
def test_a_run_is_followed_until_it_is_over(lab: Lab) -> None:
    lab.slow_down(0.002)
    with_recorder(lab)
    training = lab.train(*FLAGS, "--data", str(lab.data))
    run = lab.run_dir()
    run.reaches(1)
    follower = lab.script("export", str(run.path), "--trackio", "--follow")
    assert training.wait() == 0
    assert follower.wait() == 0
    logged = [step for kind, step, values in calls(lab)[1:-1] if "loss" in values]
    assert logged == [*range(1, STEPS + 1)]
    assert (calls(lab)[0][1], calls(lab)[-1]) == ("microgpt", ["finish"])


@pytest.mark.soak
def test_who_follows_hands_over_what_is_there_when_it_is_to_end(lab: Lab) -> None:
    lab.slow_down(0.01)
    with_recorder(lab)
    training = lab.train("--steps", "1900", *FLAGS[2:], "--data", str(lab.data))
    run = lab.run_dir()
    run.reaches(2)
    follower = lab.script("export", str(run.path), "--trackio", "names", "--follow")
    eventually(lambda: len(calls(lab)) > 1, "it has logged a step")
    follower.send(signal.SIGINT)
    assert follower.wait() == 0
    assert calls(lab)[-1] == ["finish"]
    assert training.popen.poll() is None
    training.send(signal.SIGTERM)
    training.wait()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ((), "error: say where to: --tensorboard [DIR], --trackio [PROJECT], --wandb [PROJECT]"),
        (("--wandb", "names"), "error: --wandb needs wandb: pip install wandb"),
    ],
)
def test_what_is_wrong_is_one_line(lab: Lab, flags: tuple[str, ...], line: str) -> None:
    path = lab.place / "it"
    path.mkdir()
    (path / "config.json").write_text('{"run": "a", "training": {"steps": 1}}')
    process = lab.script("export", str(path), *flags)
    assert process.wait() == 1
    assert process.err.startswith(line)
    assert process.err.count("\n") == 1


@pytest.mark.soak
def test_a_library_that_fails_is_one_line(lab: Lab, record: Path) -> None:
    with_recorder(lab)
    process = lab.script("export", str(record), "--trackio", CALLS=str(lab.place / "no/such"))
    assert process.wait() == 1
    assert process.err.startswith("error: trackio has failed: [Errno 2] No such file")
    assert process.err.count("\n") == 1


def test_a_folder_that_is_no_run_is_one_line(lab: Lab) -> None:
    process = lab.script("export", str(lab.place), "--tensorboard", "--follow")
    assert process.wait() == 1
    assert process.err.startswith("error: there is no ")
    assert process.err.count("\n") == 1
