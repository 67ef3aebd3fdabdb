"""The real docker-compose.yml on a Docker engine: a run to its end, faults, resuming, privileges.

Needs Docker and Compose, and is skipped with the reason elsewhere. Needs no registry: see
``tests/docker/standin.py``. Everything made here has a name of its own and is removed by that name.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from coordinator.core.event_json import kind_of
from coordinator.core.events import Joined
from lab.launch.launch_options import own_address
from microgpt.checkpoint import format as checkpoint_format
from tests.docker import project as docker
from tests.docker.project import Image, Project, eventually, inspect, run
from tests.lab.page.serving import Served, Viewer
from tests.processes import KEPT

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

STEPS = 1000  # of a plain ``docker compose up``
ROOT = docker.ROOT
NewProject = Callable[..., Project]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The project's image. Skips where there is no Docker."""
    if reason := docker.missing():
        pytest.skip(f"Docker is not tested here: {reason}")
    built = Image(tmp_path_factory.mktemp("image"))
    sizes = f"{built.size / 1e6:.0f} MB, {built.base_size / 1e6:.0f} MB of them the base's"
    print(f"image: {sizes}; built in {built.seconds:.0f} s after the packages")
    return built


@pytest.fixture(params=[pytest.param(0, id="compose"), pytest.param(1, id="older-compose")])
def compose(request: pytest.FixtureRequest, image: Image) -> tuple[str, ...]:
    """The Compose program under test: v2 where it is here, and 1.29 where both are."""
    composes, number = docker.composes(), int(request.param)
    if number >= len(composes):
        pytest.skip(f"only one kind of Compose is here: {' '.join(composes[0])}")
    return composes[number]


@pytest.fixture
def new_project(image: Image, compose: tuple[str, ...], tmp_path: Path) -> Iterator[NewProject]:
    """``new_project(owner=None)``: a clone, removed from Docker after the test."""
    made: list[Project] = []

    def new(owner: int | None = None) -> Project:
        place = tmp_path / f"clone{len(made)}"
        place.mkdir()
        chosen = owner if os.geteuid() == 0 else None  # others cannot give files away
        made.append(Project(place, image.name, compose, chosen))
        return made[-1]

    try:
        yield new
    finally:
        for project in made:
            project.remove()
            assert not project.containers()


@pytest.fixture(scope="module")
def calm(image: Image, tmp_path_factory: pytest.TempPathFactory) -> str:
    """``state_sha256`` of the same run without Docker."""
    place = tmp_path_factory.mktemp("calm")
    env = {
        key: text
        for key, text in os.environ.items()
        if key in KEPT or not key.startswith("MICROGPT_")
    }
    flags = ["--steps", str(STEPS), "--data", "embedded", "--quiet", "--run-dir", str(place)]
    script = str(ROOT / "scripts" / "train.py")
    done = subprocess.run([sys.executable, script, *flags], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return state_sha256(place)


def state_sha256(run_dir: Path) -> str:
    return checkpoint_format.load(run_dir / "checkpoint.msgpack").state_sha256


# --- a run to its end ----------------------------------------------------------------------------


def test_up_trains_to_the_end_and_up_again_says_so(new_project: NewProject, calm: str) -> None:
    project = new_project(owner=1000)
    began = time.time()
    log = project.succeed("up", timeout=300)
    total = time.time() - began
    steps = project.lines("metrics.jsonl")
    joined = next(each.time for each in project.recorded() if isinstance(each.event, Joined))
    first_step = joined + steps[0]["seconds"] - began  # a step begins when somebody has come
    print(f"up: the first step is done after {first_step:.1f} s, all is after {total:.1f} s")

    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert state_sha256(project.run_dir) == calm
    assert not project.containers(running=True)
    assert {inspect(c)["State"]["ExitCode"] for c in project.containers()} == {0}
    assert len(project.containers("worker")) == 2
    assert f"step {STEPS} / {STEPS} | loss" in log
    names = [line.split(": ")[-1] for line in log.splitlines() if "| sample " in line]
    assert len(names) == 20
    assert_plain(project.logs())
    assert_owned(project)

    again = project.succeed("up")
    assert "is complete" in again
    assert "MICROGPT_RUN=another-name docker compose up" in again
    assert project.step() == STEPS
    assert state_sha256(project.run_dir) == calm
    assert not project.containers(running=True)

    few = project.succeed("run", "--rm", "sample", "--num-samples", "3")
    path = str(project.run_dir / "checkpoint.msgpack")
    script = [sys.executable, str(ROOT / "scripts" / "sample.py"), path, "--num-samples", "3"]
    on_the_host = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert on_the_host in few.replace("\r\n", "\n")
    assert [line.split(": ")[-1] for line in on_the_host.splitlines()] == names[:3]


def assert_plain(log: str) -> None:
    strange = {char for char in log if not char.isprintable()} - {"\n"}
    assert not strange
    assert all(line.count(" | ") >= 1 for line in log.splitlines() if "step " in line)


def assert_owned(project: Project) -> None:
    """Every file of the run belongs to whoever owns the clone."""
    owner = (project.directory / "docker-compose.yml").stat()
    files = [project.directory / "runs", *(project.directory / "runs").rglob("*")]
    assert len(files) > 5
    for path in files:
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (owner.st_uid, owner.st_gid), path


# --- stopping and going on, other numbers of workers, privileges ---------------------------------


def test_down_and_ctrl_c_save_and_up_goes_on(new_project: NewProject, calm: str) -> None:
    project = new_project(owner=1234)
    project.succeed("up", "--no-start", "--scale", "worker=3")
    project.slow_down(0.05, running=False)  # before they can do all steps
    project.succeed("up", "--detach", "--scale", "worker=3")
    assert len(project.containers("worker")) == 3
    (coordinator,) = project.containers("coordinator")
    healthy = ("healthy",)
    eventually(
        lambda: inspect(coordinator)["State"]["Health"]["Status"] in healthy, "health", project.logs
    )
    project.wait_for_step(5)
    project.slow_down(0.01)  # while we look
    assert project.step() < STEPS, "the run is over before it could be stopped"
    for container in project.containers():
        assert_confined(container)
    assert_reachable_from_this_machine_only(coordinator)
    assert_its_page_shows_it(project)
    assert_keys_are_private(project, coordinator)
    project.slow_down(0.1)

    began = time.monotonic()
    project.succeed("down")
    assert time.monotonic() - began < 10
    assert not project.containers()
    stopped = checkpoint_format.load(project.run_dir / "checkpoint.msgpack")
    assert 5 <= stopped.step == project.step() < STEPS

    project.succeed("up", "--no-start", "--scale", "worker=1")
    project.slow_down(0.1, running=False)  # before it can do all steps
    in_front = project.start("up", "--scale", "worker=1")
    project.wait_for_step(stopped.step + 5)
    began = time.monotonic()
    in_front.send_signal(signal.SIGINT)
    in_front.wait(30)
    assert time.monotonic() - began < 10
    assert not project.containers(running=True)
    interrupted = checkpoint_format.load(project.run_dir / "checkpoint.msgpack")
    assert stopped.step + 5 <= interrupted.step == project.step() < STEPS
    assert f"after step {stopped.step}" in project.logs()

    project.slow_down(1.0, running=False)
    log = project.succeed("up", "--scale", "worker=1", timeout=300)
    assert f"after step {interrupted.step}" in log
    assert state_sha256(project.run_dir) == calm
    assert not project.containers(running=True)
    assert_owned(project)


def assert_its_page_shows_it(project: Project) -> None:
    """At a port of this machine, with what it needs to draw."""
    address = project.succeed("port", "page", "8080").strip()
    assert re.fullmatch(r"127\.0\.0\.1:80[89]\d", address), address
    host, _, port = address.partition(":")
    page = Served(f"http://{host}:{port}/")
    with Viewer(page) as viewer:
        _, name, data = next(viewer.messages())
        assert (name, data["run"]["name"]) == ("snapshot", "docker")
        assert data["state"]["phase"] == "running"
        assert data["steps"]["step"][-1] >= 5
        viewer.until("spans")
    assert requests.get(f"{page.url}charts.js", timeout=60).status_code == 200


def assert_confined(container: str) -> None:
    """A process that is nobody special, in a file system it cannot change, with limits."""
    status = docker.status_of_first_process(container)
    if os.geteuid() == 0:  # then the clone was given to this user
        assert status["Uid"].split() == ["1234"] * 4
        assert status["Gid"].split() == ["1234"] * 4
    assert status["Groups"].split() == []
    for held in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[held], 16) == 0, held
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    host = inspect(container)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"]) <= {"CHOWN", "SETGID", "SETUID"}
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    with pytest.raises(RuntimeError, match="Read-only file system"):
        run("docker", "exec", container, "sh", "-c", "true > /opt/new")


def assert_reachable_from_this_machine_only(coordinator: str) -> None:
    about = inspect(coordinator)["NetworkSettings"]
    assert list(about["Ports"]) == ["5555/tcp"]
    assert {published["HostIp"] for published in about["Ports"]["5555/tcp"]} == {"127.0.0.1"}
    assert len(about["Networks"]) == 1


def assert_keys_are_private(project: Project, coordinator: str) -> None:
    both = ["/keys", "/worker-keys"]
    listing = run("docker", "exec", "--user", "0", coordinator, "stat", "-c", "%a", *both)
    assert listing.split() == ["700", "700"]
    for container in project.containers("worker"):
        mounted = {mount["Destination"]: mount["RW"] for mount in inspect(container)["Mounts"]}
        ours = ("/etc/microgpt/owner", "/worker-keys", "/below-keys")
        assert mounted == dict.fromkeys(ours, False)
        user = run("docker", "exec", container, "stat", "-c", "%u", "/worker-keys").strip()
        files = run("docker", "exec", "--user", user, container, "ls", "/worker-keys").split()
        assert files == ["coordinator.key", "worker.key", "worker.key_secret"]
    assert "CurveZMQ" not in project.logs()
    environment = inspect(coordinator)["Config"]["Env"]
    assert "MICROGPT_CURVE=/keys" in environment
    assert not any(entry.startswith("MICROGPT_INSECURE") for entry in environment)


def test_workers_of_another_host_come_with_copied_keys_and_go_when_their_key_is_removed(
    new_project: NewProject,
) -> None:
    """As docs/docker.md says, but for the ports and that one engine plays both hosts."""
    host, other = new_project(owner=1234), new_project(owner=1234)
    host.env |= {"MICROGPT_PUBLISH": "0.0.0.0:0", "MICROGPT_KEYS": "./keys"}
    host.env |= {"MICROGPT_STEPS": "1000000", "MICROGPT_EVENTS": "summary"}
    host.succeed("up", "--detach", "--scale", "worker=0", "--scale", "page=0")
    made, copied = host.directory / "keys", other.directory / "keys"
    eventually((made / "coordinator.key").exists, "keys", host.logs)
    copied.mkdir()
    for name in ("coordinator.key", "worker.key", "worker.key_secret"):
        shutil.copy2(made / name, copied)
    owner = (host.directory / "docker-compose.yml").stat()
    for path in (copied, *copied.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)
    port = host.succeed("port", "coordinator", "5555").strip().rpartition(":")[2]
    other.env["MICROGPT_COORDINATOR"] = f"tcp://{own_address()}:{port}"
    other.env["MICROGPT_WORKER_KEYS"] = "./keys"
    other.succeed("up", "--detach", "worker")
    happens(host, "joined", 2)
    other.slow_down(0.1)

    user = f"{owner.st_uid}:{owner.st_gid}"
    remove = ("coordinator", "rm", "/keys/workers/worker.key")
    host.succeed("exec", "-T", "--user", user, *remove)
    happens(host, "expelled", 2)
    told = "the coordinator does not know this worker"  # when Docker has started it again
    eventually(lambda: told in other.logs(), told, other.logs)
    assert len(host.containers("coordinator", running=True)) == 1, "the run goes on"


def happens(project: Project, kind: str, times: int) -> None:
    """Until something has happened so often in the run."""

    def count() -> int:
        there = (project.run_dir / "events.jsonl").exists()
        return sum(kind_of(each.event) == kind for each in project.recorded()) if there else 0

    eventually(lambda: count() >= times, f"{times} x {kind}", project.logs)


def test_workers_below_aggregators_end_with_the_same_bits(
    new_project: NewProject, calm: str
) -> None:
    project = new_project(owner=1000)
    project.env |= {
        "MICROGPT_COORDINATOR": "tcp://aggregator:5555",
        "MICROGPT_WORKER_CURVE": "/below-keys",
    }
    log = project.succeed("up", "--scale", "aggregator=2", "--scale", "worker=4", timeout=300)
    assert state_sha256(project.run_dir) == calm
    joined = [each.event for each in project.recorded() if isinstance(each.event, Joined)]
    assert [event.engine for event in joined] == ["aggregator"] * len(joined)
    assert len(project.containers("aggregator")) == 2
    assert "has joined" in log
    (one, _) = project.containers("aggregator")
    mounts = {mount["Destination"] for mount in inspect(one)["Mounts"]}
    assert "/keys" not in mounts
    for worker in project.containers("worker"):
        mounts = {mount["Destination"] for mount in inspect(worker)["Mounts"]}
        assert "/aggregator-keys" not in mounts
    assert_plain(project.logs())


# --- faults --------------------------------------------------------------------------------------


def test_faults_of_containers_change_nothing(new_project: NewProject, calm: str) -> None:
    project = new_project()
    project.succeed("up", "--detach", "--scale", "worker=3")
    project.slow_down(0.15)
    killed, frozen, cut_off = project.containers("worker", running=True)
    (coordinator,) = project.containers("coordinator")
    (network,) = inspect(coordinator)["NetworkSettings"]["Networks"]
    project.wait_for_step(3)

    run("docker", "kill", killed)
    go_on(project)
    run("docker", "pause", frozen)
    noted(project, "silent")
    go_on(project)
    run("docker", "unpause", frozen)
    run("docker", "network", "disconnect", network, cut_off)
    go_on(project)
    run("docker", "network", "connect", network, cut_off)

    assert project.step() < STEPS, "the run is over before the faults are"
    crash(coordinator)
    eventually(
        lambda: sum(isinstance(each.event, Joined) for each in project.recorded()) >= 5,
        "both workers are back",
        project.logs,
    )
    go_on(project)
    assert project.step() < STEPS, "the run is over before the faults are"
    project.slow_down(2.0)
    project.wait_for_end()
    assert state_sha256(project.run_dir) == calm
    assert [line["step"] for line in project.lines("metrics.jsonl")] == list(range(1, STEPS + 1))
    ended = {c: inspect(c)["State"]["ExitCode"] for c in project.containers()}
    assert ended.pop(killed) == 128 + signal.SIGKILL
    assert set(ended.values()) == {0}
    assert_plain(project.logs())


def go_on(project: Project) -> None:
    """Training makes progress with whoever is left."""
    before = project.step()
    project.wait_for_step(before + 3)


def noted(project: Project, kind: str) -> None:
    eventually(
        lambda: any(kind_of(each.event) == kind for each in project.recorded()), kind, project.logs
    )


def crash(container: str) -> None:
    """End a container's process as the kernel would; Docker starts it again by its policy.

    ``docker kill`` means that it shall not come back, so that needs a start by hand.
    """
    pid = inspect(container)["State"]["Pid"]
    if os.geteuid() == 0 and Path(f"/proc/{pid}").exists():
        os.kill(pid, signal.SIGKILL)
    else:
        run("docker", "kill", container)
        run("docker", "start", container)


def test_settings_that_cannot_be_end_with_a_reason(new_project: NewProject) -> None:
    project = new_project()
    project.env["MICROGPT_N_HEAD"] = "5"
    project.succeed("up", "--detach", "coordinator")
    eventually(lambda: "error: " in project.logs(), "a reason", project.logs)
    assert "Traceback" not in project.logs()


def test_one_image_is_built_and_removed_again(new_project: NewProject, image: Image) -> None:
    project = new_project()
    project.builds(image)
    with docker.taking_turns():  # another test run's unfinished image has no name either
        before = nameless()
        log = project.succeed("build", timeout=600)
        # The packages' stage is the one that all tests share, and has their name.
        assert nameless() == before
    assert len(re.findall(r"^(?:Building|#?.*naming to) ", log, re.MULTILINE)) == 1, log
    project.succeed("up", "--detach")
    used = {inspect(container)["Image"] for container in project.containers()}
    assert len(used) == 1
    project.succeed("down", "--volumes", "--rmi", "all")
    assert not run("docker", "image", "ls", "--quiet", project.env["MICROGPT_IMAGE"]).strip()
    assert not used & nameless()


def nameless() -> set[str]:
    """Images of ours that have lost their names or never had one."""
    label = "label=org.opencontainers.image.title=microgpt-data-parallel"
    listed = run("docker", "image", "ls", "--quiet", "--filter", "dangling=true", "--filter", label)
    return set(listed.split())
