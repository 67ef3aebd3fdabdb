"""What launchers have in common: options, records, keys, plans; and the local one at work."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from coordinator.core.events import Controlled, Joined
from lab.launch.control_socket import ControlSocket, SupervisorGoneError, ask
from lab.launch.launch_options import advertised
from lab.launch.launch_record import LaunchRecord, read_launch
from lab.launch.launchers.base import WorkerKeys, WorkerStatus, from_json
from lab.launch.launchers.registry import attach, read_options
from lab.launch.requests import Verb
from lab.launch.supervisor import Endpoint
from lab.launch.workers_command import divide, newest, read_count
from microgpt.support.cli import INTERRUPTED, UserError
from tests.processes import ENDLESS, TINY, Lab, eventually

RECORD = LaunchRecord("slurm", "0123456789abcdef", "head", {"job": "17"})

# Options


def test_options() -> None:
    assert read_options(("time=1:00", "comment=a=b", "exclusive=")) == {
        "time": "1:00", "comment": "a=b", "exclusive": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("time",), "write KEY=VALUE"),
        (("=1",), "write KEY=VALUE"),
        (("time=\x1b",), "write KEY=VALUE"),
        (("time=1", "time=2"), "time is given twice"),
    ],
)
def test_what_are_no_options(texts: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_options(texts)


def test_where_workers_on_other_machines_find_the_coordinator() -> None:
    endpoint = Endpoint("tcp://*:0", advertise="head")
    assert endpoint.address("tcp://0.0.0.0:4711") == "tcp://head:4711"
    assert advertised("tcp://10.0.0.1:0") == "10.0.0.1"
    assert advertised("tcp://[::1]:5555") == "[::1]"
    assert advertised("tcp://*:0") not in ("", "*")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--launcher", "moon"], "'moon' is not one of 'local', 'ray', 'slurm'"),
        (["--launcher", "slurm", "--slow", "2x"], "are for --launcher local"),
        (["--launcher", "slurm", "--on-failure", "restart"], "are for --launcher local"),
        (["--launcher", "slurm", "--page", "--control"], "--control is for --launcher local"),
        (["--launcher", "slurm", "--bind", "ipc:///x"], "is not reached from other machines"),
        (["--launcher-option", "time=1"], "--launcher local has no option 'time'"),
        (["--advertise", "head"], "--advertise is for workers on other machines"),
        (["--launcher", "slurm"], "there is no sbatch: --launcher slurm needs Slurm's commands"),
    ],
)
def test_what_does_not_go_together_is_one_line(lab: Lab, flags: list[str], says: str) -> None:
    train = lab.train(*flags, PATH="/nowhere")
    assert train.wait() in (1, 2)
    (line,) = train.err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not (lab.place / "runs").exists(), "nothing is left of it"


def test_a_dry_run_says_what_would_be_started_and_starts_nothing(lab: Lab) -> None:
    train = lab.train("--dry-run", "--workers", "2", "--steps", "9", "--bind", "tcp://*:5555",
                      "--curve", "keys")  # fmt: skip
    assert train.wait() == 0
    worker = (
        "worker-{}: python -m worker --connect tcp://127.0.0.1:5555 --name worker-{} "
        "--engine tape --curve keys"
    )
    assert train.out.splitlines() == [
        "coordinator: python -m coordinator --steps 9 --curve keys --started 2 tape "
        "--run-dir runs/it --bind 'tcp://*:5555'",
        worker.format(1, 1),
        worker.format(2, 2),
    ]
    assert not (lab.place / "runs").exists()
    assert not (lab.place / "keys").exists()


# Records and keys


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write_to(tmp_path / "launch.json")
    assert read_launch(tmp_path) == RECORD
    plain = json.loads((tmp_path / "launch.json").read_text())
    assert plain == {
        "version": 1, "launcher": "slurm", "launch": "0123456789abcdef", "host": "head",
        "known_as": {"job": "17"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "has no launch.json: no launcher has started its workers"),
        ("{", "is no record of a launch"),
        ("[1]", "is no record of a launch"),
        ('{"version": 1}', "is no record of a launch"),
        ('{"version": 2}', "has version 2, and this program knows 1"),
        ('{"version": 1, "launcher": "local", "launch": "../x", "host": "h", "known_as": {}}',
         "is no record of a launch"),
        ('{"version": 1, "launcher": "local", "launch": "0123456789abcdef", "host": "h", '
         '"known_as": {"job": 1}}', "is no record of a launch"),
        ("[" * 100_000, "is no record of a launch"),
    ],
)  # fmt: skip
def test_what_is_no_record(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "launch.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_launch(tmp_path)


def test_a_record_of_another_program_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knows no launcher 'moon'"):
        attach(tmp_path, LaunchRecord("moon", "0123456789abcdef", "head"))


def test_workers_get_their_keys_and_not_the_coordinators(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    names = ("coordinator.key", "coordinator.key_secret", "worker.key", "worker.key_secret")
    for name in names:
        (given / name).write_text(name)
    keys = WorkerKeys.read(given)
    for _ in range(2):
        keys.write(tmp_path / "theirs")
    files = {path.name: path for path in (tmp_path / "theirs").iterdir()}
    assert set(files) == {".gitignore", "coordinator.key", "worker.key", "worker.key_secret"}
    assert stat.S_IMODE(files["worker.key_secret"].stat().st_mode) == 0o600
    assert files["worker.key_secret"].read_text() == "worker.key_secret"
    (given / "worker.key_secret").unlink()
    with pytest.raises(UserError, match=r"cannot read the key .*worker\.key_secret"):
        WorkerKeys.read(given)


# Commands


def test_words_of_the_command() -> None:
    assert divide(()) == (None, "list", ())
    assert divide(("runs/x",)) == (Path("runs/x"), "list", ())
    assert divide(("scale", "4")) == (None, "scale", ("4",))
    assert divide(("./list", "logs", "worker-1")) == (Path("list"), "logs", ("worker-1",))
    with pytest.raises(UserError, match="workers cannot 'explode': there are list, logs NAME"):
        divide(("runs/x", "explode"))


@pytest.mark.parametrize("text", ["0", "-1", "4097", "four", "", "1" * 5000, "\u0664"])
def test_what_is_no_number_of_workers(text: str) -> None:
    with pytest.raises(UserError, match="is no number of workers, which is from 1 to 4096"):
        read_count(text)


def test_the_newest_run_is_the_one_launched_last(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "c", "a")):
        (tmp_path / name).mkdir()
        RECORD.write_to(tmp_path / name / "launch.json")
        os.utime(tmp_path / name / "launch.json", (number, number))
    (tmp_path / "latest").symlink_to("b")
    (tmp_path / "other").mkdir()
    assert [path.name for path in newest(tmp_path)] == ["a", "c", "b"]


def test_nobody_answers_for_a_launch_that_is_over() -> None:
    with ControlSocket("fedcba9876543210", None), pytest.raises(SupervisorGoneError):  # type: ignore[arg-type]  # nothing is asked
        ask("0123456789abcdef", Verb.LIST)


def test_local_workers_are_listed_scaled_read_and_stopped_from_elsewhere(lab: Lab) -> None:
    lab.slow_down(0.05)
    train = lab.train(*TINY, *ENDLESS, "--workers", "2", "--engine", "scalar", "--data",
                      str(lab.data))  # fmt: skip
    run = lab.run_dir()
    run.happens("ready", times=2)

    def asked(*words: str, script: str = "workers") -> str:
        process = lab.script(script, *words)
        assert process.wait() == 0, process.err
        return process.out

    handles = from_json(asked("runs/it", "list", "--json"))
    assert [(each.name, each.status) for each in handles] == [
        ("worker-1", WorkerStatus.RUNNING), ("worker-2", WorkerStatus.RUNNING),
    ]  # fmt: skip
    assert asked("3", script="scale") == "3 workers instead of 2\n", "of the newest that goes on"
    run.happens("joined", times=3)
    assert asked("scale", "1") == "1 workers instead of 3\n"
    run.happens("left", times=2)
    ended = eventually(
        lambda: [line for line in asked().splitlines() if "ended" in line and "has left" in line],
        "two are sent home",
    )
    assert [line.split()[0] for line in ended] == ["worker-2", "worker-3"]
    assert "worker-1 offers itself to ipc://" in asked("logs", "worker-1")
    assert asked("stop") == ""
    train.expected = True
    assert train.wait() == INTERRUPTED
    assert {event.name for event in run.events(Joined)} == {"worker-1", "worker-2", "worker-3"}
    told = [(event.by, event.verb.value, event.name) for event in run.events(Controlled)]
    assert told[0] == ("command", "add", "worker-3")
    assert set(told[1:]) == {("command", "remove", f"worker-{n}") for n in (2, 3)}
    over = lab.script("workers", "runs/it")
    assert over.wait() == 1
    assert over.err == "error: the run in runs/it does not go on: it has ended or was killed\n"
