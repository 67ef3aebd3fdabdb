"""What of the Docker files can be checked without Docker: what is installed, set and documented."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import click
import pytest
import zmq
from click.testing import CliRunner

from aggregator.__main__ import main as aggregator
from coordinator.__main__ import main as coordinator
from lab.launch import container, container_keys
from tests.docker.project import composes
from tests.processes import TINY, Lab
from worker.__main__ import main as worker

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import runtime_requirements  # noqa: E402

VARIABLE = re.compile(r"\b(MICROGPT_[A-Z0-9_]+|BASE_IMAGE|BUILD_IMAGE|PIP_INDEX_URL)\b")
#: Set by the compose file itself, or meaningless in a container.
FIXED = {
    "MICROGPT_BIND", "MICROGPT_RUN_DIR", "MICROGPT_CURVE", "MICROGPT_RESUME", "MICROGPT_LINGER",
    "MICROGPT_INSECURE", "MICROGPT_CONNECT", "MICROGPT_NAME", "MICROGPT_CACHE_DIR",
    "MICROGPT_CURVE_BELOW",
}  # fmt: skip
#: Whose default in containers is another one.
OTHER_DEFAULTS = ("MICROGPT_COORDINATOR", "MICROGPT_PATIENCE", "MICROGPT_EVENTS")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- packages ------------------------------------------------------------------------------------


def test_image_installs_what_the_project_depends_on_and_no_tools() -> None:
    found = runtime_requirements.runtime(read("pyproject.toml"), read("requirements.lock"))
    names = {entry.name for entry in found}
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = {runtime_requirements.normal(text) for text in project["dependencies"]}
    assert wanted <= names
    assert {"llvmlite", "urllib3", "certifi"} <= names, "what they need in turn"
    assert {"uvicorn", "starlette", "sse-starlette", "anyio", "bokeh"} <= names, "the page"
    assert not names & {"pillow", "tornado"}, "what bokeh needs in Python"
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "pluggy", "sortedcontainers"}
    for entry in found:
        assert "==" in entry.lines[0]
        assert any("--hash=sha256:" in line for line in entry.lines)


def test_packages_of_the_lock_are_taken_over_as_they_stand() -> None:
    lock = "# made\na==1 ; x \\\n    --hash=sha256:1\n    # via p (pyproject.toml)\n"
    lock += "b==2\n    # via\n    #   a\n    #   t\n"
    lock += "t==3\n    # via p (pyproject.toml)\na==2 ; y\n    # via p (pyproject.toml)\n"
    found = runtime_requirements.runtime('[project]\ndependencies = ["A >=1"]', lock)
    assert [(entry.name, entry.lines[0]) for entry in found] == [
        ("a", "a==1 ; x \\"),
        ("b", "b==2"),
        ("a", "a==2 ; y"),
    ]
    assert found[0].lines[1] == "    --hash=sha256:1"


def test_dependency_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"zmq.*make lock"):
        runtime_requirements.runtime('[project]\ndependencies = ["zmq"]', "a==1\n    # via b\n")


@pytest.mark.parametrize(
    ("given", "code", "output", "error"),
    [("--help", 0, "usage: runtime_requirements.py", ""), ("--nonsense", 2, "", "unrecognized")],
)
def test_the_script_has_help_and_refuses_what_it_does_not_know(
    given: str, code: int, output: str, error: str
) -> None:
    script = str(ROOT / "scripts" / "runtime_requirements.py")
    done = subprocess.run(
        [sys.executable, script, given], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert output in done.stdout
    assert error in done.stderr
    assert "==" not in done.stdout


# --- settings ------------------------------------------------------------------------------------


def test_every_variable_of_the_compose_file_is_documented() -> None:
    used = set(VARIABLE.findall(read("docker-compose.yml"))) - FIXED
    documented = set(re.findall(r"^#(\w+)=", read(".env.example"), re.MULTILINE))
    assert used == documented


def test_compose_builds_one_image_in_one_place() -> None:
    shared, services = read("docker-compose.yml").split("\nservices:\n")
    assert "build:" not in shared, "each service would build it"
    assert len(re.findall(r"^ *build:", services, re.MULTILINE)) == 1
    assert "image:" not in services
    label = re.findall(r'org\.opencontainers\.image\.title="(.+?)"', read("Dockerfile"))
    assert label == ["microgpt-data-parallel"] * 2, "what stages leave can be found and removed"
    assert f"label=org.opencontainers.image.title={label[0]}" in read("docs/docker.md")


def test_compose_reads_the_file_and_settings_of_the_environment() -> None:
    """Without an engine; containers are for tests/system/test_docker.py."""
    programs = composes()
    if not programs:
        pytest.skip("neither 'docker compose' nor docker-compose is here")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [*programs[0], "--file", str(ROOT / "docker-compose.yml"), *arguments],
            env={**kept, "MICROGPT_STEPS": "77"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    read = said("config")
    assert {*re.findall(r"^  (\w+):$", read, re.M)} >= {"coordinator", "worker", "aggregator"}
    assert re.findall(r"MICROGPT_STEPS: ['\"](.*)['\"]", read) == ["77"]


@pytest.mark.parametrize("program", [coordinator, worker, aggregator])
def test_compose_passes_every_setting_of_the_programs_on(program: object) -> None:
    shown = CliRunner().invoke(program, ["--help"], env={"COLUMNS": "200"}).output  # type: ignore[arg-type]
    settings = set(re.findall(r"MICROGPT_[A-Z0-9_]+", shown)) - FIXED
    assert len(settings) >= 3 or program is aggregator
    assert settings <= set(VARIABLE.findall(read("docker-compose.yml")))


def test_documented_defaults_are_those_of_the_programs() -> None:
    documented = dict(re.findall(r"^#(MICROGPT_\w+)=(\S+)$", read(".env.example"), re.MULTILINE))
    compared = 0
    for parameter in (*coordinator.params, *worker.params):
        for name in parameter.envvar or ():
            if name in documented and name not in OTHER_DEFAULTS:
                ours = parameter.type_cast_value(click.Context(worker), documented[name])
                assert ours == parameter.get_default(click.Context(worker)) or (
                    documented[name] == parameter.default
                ), name
                compared += 1
    assert compared >= 15


# --- the entry point -----------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(container, "APP", tmp_path)
    monkeypatch.setattr(container, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(container, "OWNER", tmp_path / "owner")
    (tmp_path / "owner").touch()
    return tmp_path


def give(path: Path, user: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, user, user + 1)


def test_runs_as_the_owner_of_the_runs(entry: Path) -> None:
    give(entry / "runs", 1234)
    give(entry / "owner", 1000)
    assert container.choose_user({}, container.RUNS) == (1234, 1235)


def test_runs_as_the_owner_of_the_clone_where_docker_has_made_the_folder(entry: Path) -> None:
    give(entry / "runs", 0)
    give(entry / "owner", 1000)
    assert container.choose_user({}, container.RUNS) == (1000, 1001)


def test_user_and_group_can_be_chosen(entry: Path) -> None:
    chosen = {"MICROGPT_UID": "5", "MICROGPT_GID": "6"}
    assert container.choose_user(chosen, container.RUNS) == (5, 6)


def test_user_that_is_no_number_is_one_line(entry: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: MICROGPT_UID .* must be numbers"):
        container.choose_user({"MICROGPT_UID": "me"}, container.RUNS)


def test_folder_made_by_docker_is_handed_over(entry: Path) -> None:
    give(entry / "runs", 0)
    (entry / "runs" / "old").touch()
    container.hand_over(entry / "runs", 1234, 1235)
    assert ((entry / "runs").stat().st_uid, (entry / "runs").stat().st_gid) == (1234, 1235)
    assert (entry / "runs" / "old").stat().st_uid == 0, "only the folder"


def test_folder_of_somebody_is_left_alone(entry: Path) -> None:
    give(entry / "runs", 1000)
    container.hand_over(entry / "runs", 1234, 1235)
    assert (entry / "runs").stat().st_uid == 1000


def test_volume_of_an_earlier_user_is_handed_over_with_its_contents(entry: Path) -> None:
    keys = entry / "keys"
    (keys / "workers").mkdir(parents=True)
    (keys / "workers" / "worker.key").touch()
    (keys / "link").symlink_to(entry / "owner")
    for path in (keys, keys / "workers", keys / "workers" / "worker.key"):
        give(path, 1000)
    keys.chmod(0o700)
    container.hand_over(keys, 1234, 1235)
    assert {path.lstat().st_uid for path in [keys, *keys.rglob("*")]} == {1234}
    assert (entry / "owner").stat().st_uid == os.geteuid(), "a link is not followed"
    assert keys.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("mode", "after"), [(0o1777, 0o700), (0o755, 0o755), (0o750, 0o750)])
def test_a_new_volume_for_keys_is_closed_and_a_folder_keeps_its_mode(
    tmp_path: Path, mode: int, after: int
) -> None:
    tmp_path.chmod(mode)
    container_keys.close_to_others(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == after
    container_keys.close_to_others(tmp_path / "missing")


def test_newest_checkpoint_is_the_one_written_last(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MICROGPT_RUN", raising=False)
    assert container.newest_checkpoint() is None
    for seconds, name in enumerate(("b", "c", "a")):
        path = entry / "runs" / name / "checkpoint.msgpack"
        path.parent.mkdir()
        path.touch()
        os.utime(path, (seconds, seconds))
    assert container.newest_checkpoint() == entry / "runs" / "a" / "checkpoint.msgpack"
    monkeypatch.setenv("MICROGPT_RUN", "b")
    assert container.newest_checkpoint() == entry / "runs" / "b" / "checkpoint.msgpack"


def test_health_means_that_zeromq_greets(monkeypatch: pytest.MonkeyPatch) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        monkeypatch.setattr(container, "PORT", router.bind_to_random_port("tcp://127.0.0.1"))
        assert container.accepts_workers()
    assert not container.accepts_workers(), "nobody listens"


def test_another_program_at_the_port_is_not_health(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(container, "PORT", server.getsockname()[1])

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not container.accepts_workers()
        thread.join()


def test_entry_point_says_what_it_can_do() -> None:
    script = str(ROOT / "scripts" / "container.py")
    done = subprocess.run([sys.executable, script, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "coordinator | worker" in done.stderr


# --- the ends of coordinator and worker that containers need -------------------------------------


def test_worker_loses_its_patience_without_a_coordinator(lab: Lab) -> None:
    worker = lab.worker("tcp://127.0.0.1:9", "--patience", "0.5")
    assert worker.wait() == 0
    assert "ends: no coordinator for 0.5 s" in worker.out


def test_worker_loses_its_patience_without_a_key(lab: Lab) -> None:
    (lab.place / "keys").mkdir()
    worker = lab.worker("tcp://127.0.0.1:9", "--patience", "0.5", "--curve", "keys")
    assert worker.wait() == 0
    assert "ends: no coordinator has put its key into keys" in worker.out


def test_idle_worker_of_a_coordinator_at_work_keeps_its_patience(lab: Lab) -> None:
    lab.slow_down(0.01)
    endless = ["--steps", "1900", "--batch-size", "1"]  # work for one
    coordinator = lab.coordinator(*TINY, "--data", str(lab.data), *endless)
    address = lab.run_dir().endpoint()
    workers = [lab.worker(address, "--patience", "2") for _ in range(2)]
    lab.run_dir().happens("joined", 2)
    time.sleep(3)
    assert [worker.popen.poll() for worker in workers] == [None, None]
    coordinator.expected = True
    coordinator.popen.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0]


def test_coordinator_of_a_complete_run_sends_workers_home(lab: Lab) -> None:
    run = [*TINY, "--data", str(lab.data), "--steps", "1"]
    first = lab.coordinator(*run)
    lab.worker(lab.run_dir().endpoint())
    assert first.wait() == 0
    (lab.run_dir().path / "endpoint").unlink()
    again = lab.coordinator(*run, "--resume", "auto", "--linger", "60")
    worker = lab.worker(lab.run_dir().endpoint())
    assert worker.wait() == 0
    assert "the run was complete already" in worker.out
    again.expected = True
    again.popen.send_signal(signal.SIGTERM)
    again.wait()
    assert "the run was complete already" in again.out
