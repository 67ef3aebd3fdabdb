"""The real compose file under a name of its own: started, watched, hurt and removed by tests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from coordinator.core.events import Recorded
from lab.event_reader import read_events
from tests.docker.standin import ROOT, exists, images, run, taking_turns

__all__ = [
    "ROOT",
    "Image",
    "Project",
    "composes",
    "eventually",
    "inspect",
    "missing",
    "run",
    "taking_turns",
]

T = TypeVar("T")

CLONED = ("docker-compose.yml", "microgpt/data")  # what ``up`` needs once the image is built
BUILT = (
    "Dockerfile", ".dockerignore", "pyproject.toml", "requirements.lock", "LICENSE",
    "scripts", "coordinator", "worker", "aggregator", "lab", "microgpt",
)  # fmt: skip
BUILDS = "microgpt-test-image"
KEPT_IMAGES = 4
PATIENCE = 120.0  # seconds, of a busy machine


def missing() -> str:
    """Why there can be no test with Docker here; empty if there can."""
    if not shutil.which("docker"):
        return "there is no docker command"
    try:
        run("docker", "info")
    except RuntimeError as error:
        return "no Docker engine answers: " + " ".join(str(error).split())[-200:]
    return "" if composes() else "neither 'docker compose' nor docker-compose is here"


def composes() -> list[tuple[str, ...]]:
    """The Compose programs of this machine: v2 first."""
    known: list[tuple[str, ...]] = [("docker", "compose"), ("docker-compose",)]
    return [command for command in known if _answers(command)]


def _answers(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run([*command, "version"], capture_output=True).returncode == 0
    except OSError:
        return False


class Image:
    """The project's image, built from the working tree unless that was done before.

    ``MICROGPT_TEST_BASE_IMAGE`` names a base to build on, such as python:3.12-slim; without it, and
    if that is not here, a stand-in is made. The image, and what pip has installed, are kept for the
    next time; of earlier ones the last few, as another test run may be at work with one.
    """

    def __init__(self, directory: Path) -> None:
        real = os.environ.get("MICROGPT_TEST_BASE_IMAGE", "python:3.12-slim")
        here = run("docker", "image", "ls", "--quiet", real).strip()
        base, build = (real, real) if here else images()
        for name in BUILT:
            _copy(ROOT / name, directory / name)
        self.arguments = {"BASE_IMAGE": base, "BUILD_IMAGE": build, "PIP_INDEX_URL": ""}
        arguments = [f"--build-arg={name}={value}" for name, value in self.arguments.items()]
        self.name = f"{BUILDS}:{digest(directory, *arguments)}"
        kept = f"microgpt-test-packages:{build.rpartition(':')[2]}"
        with taking_turns():  # else two test runs would install, and name, the same at once
            began = time.monotonic()
            if not exists(self.name):
                packages = ("--target", "packages", "-t", kept, str(directory))
                run("docker", "build", "--force-rm", *arguments, *packages)
                began = time.monotonic()
                run("docker", "build", "--force-rm", *arguments, "-t", self.name, str(directory))
            self.seconds = time.monotonic() - began
            remove_old()
        self.size = int(run("docker", "image", "inspect", "-f", "{{.Size}}", self.name))
        self.base_size = int(run("docker", "image", "inspect", "-f", "{{.Size}}", base))


def digest(directory: Path, *more: str) -> str:
    """Of all files in a directory, their names, permissions to execute, and some more words."""
    found = hashlib.sha256(repr(more).encode())
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        about = (str(path.relative_to(directory)), os.access(path, os.X_OK))
        found.update(repr((about, hashlib.sha256(path.read_bytes()).digest())).encode())
    return found.hexdigest()[:12]


def remove_old() -> None:
    """Remove images that earlier versions of the sources were built into, but the last few."""
    names = run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", BUILDS).split()
    for name in names[KEPT_IMAGES:]:  # the newest come first
        with contextlib.suppress(RuntimeError):  # it is in use
            run("docker", "image", "rm", name)


class Project:
    """A clone of the compose file in a directory, with a project name that nobody else has."""

    def __init__(
        self, directory: Path, image: str, compose: tuple[str, ...], owner: int | None
    ) -> None:
        self.directory, self.compose = directory, compose
        self.name = f"mgpt{uuid.uuid4().hex[:10]}"
        for name in CLONED:
            _copy(ROOT / name, directory / name)
        if owner is not None:
            for path in [directory, *directory.rglob("*")]:
                os.chown(path, owner, owner)
        kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "TMPDIR")
        self.env = {key: os.environ[key] for key in kept if key in os.environ}
        self.env |= {"MICROGPT_IMAGE": image, "MICROGPT_DATA": "embedded"}

    def builds(self, image: Image) -> None:
        """From now on ``up`` builds, under a name of its own, what the image was built from."""
        for name in BUILT:
            _copy(ROOT / name, self.directory / name)
        self.env |= {**image.arguments, "MICROGPT_IMAGE": f"microgpt-test:{self.name}"}

    @property
    def run_dir(self) -> Path:
        """Where the run is recorded."""
        return self.directory / "runs" / "docker"

    def command(self, *arguments: str) -> list[str]:
        """A command line for Compose."""
        return [*self.compose, "--ansi", "never", "--project-name", self.name, *arguments]

    def do(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Let Compose do something. What it prints, on one stream, is in ``stdout``."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Let Compose do something in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def succeed(self, *arguments: str, timeout: float = PATIENCE) -> str:
        """What Compose prints. AssertionError if it fails."""
        done = self.do(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def logs(self) -> str:
        """What all containers have written, with the name of the service before each line.

        Without what Compose v2 itself puts before that, whatever it is told: "erase this line".
        """
        return re.sub(r"^\x1b\[2K", "", self.succeed("logs", "--no-color"), flags=re.MULTILINE)

    def containers(self, service: str = "", *, running: bool = False) -> list[str]:
        """Ids of this project's containers."""
        filters = ["--filter", f"label=com.docker.compose.project={self.name}"]
        if service:
            filters += ["--filter", f"label=com.docker.compose.service={service}"]
        return run("docker", "ps", "-q", *([] if running else ["-a"]), *filters).split()

    def lines(self, name: str) -> list[Mapping[str, Any]]:
        """The complete lines of a file of the run's record; none while there is no file."""
        path = self.run_dir / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]

    def recorded(self) -> list[Recorded]:
        """What has happened, and when."""
        return read_events(self.run_dir)

    def step(self) -> int:
        """The last step that is done."""
        return max((line["step"] for line in self.lines("metrics.jsonl")), default=0)

    def wait_for_step(self, step: int) -> None:
        """Until this step is done."""
        eventually(lambda: self.step() >= step, f"step {step}", self.logs)

    def wait_for_end(self) -> None:
        """Until no container runs."""
        eventually(lambda: not self.containers(running=True), "the end", self.logs)

    def slow_down(self, cpus: float, *, running: bool = True) -> None:
        """Let every worker have this much of a CPU, so that there is time to disturb it.

        ``running=False``: also those that are not started yet, or have ended.
        """
        run("docker", "update", "--cpus", str(cpus), *self.containers("worker", running=running))

    def remove(self) -> None:
        """Leave no container, network, volume or image of this project."""
        left = self.containers()
        if left:
            run("docker", "rm", "--force", *left)
        self.do("down", "--volumes", "--remove-orphans", "--timeout", "1")
        own = f"microgpt-test:{self.name}"
        if exists(own):
            run("docker", "image", "rm", "--force", own)


def inspect(container: str) -> Any:
    """What Docker knows of a container."""
    return json.loads(run("docker", "inspect", container))[0]


def status_of_first_process(container: str) -> Mapping[str, str]:
    """/proc/1/status in a container."""
    text = run("docker", "exec", container, "cat", "/proc/1/status")
    return dict(re.findall(r"^(\w+):[ \t]*(.*)$", text, re.MULTILINE))


def eventually(
    condition: Callable[[], T], what: str, explain: Callable[[], str], timeout: float = PATIENCE
) -> T:
    """The first true value of ``condition``; AssertionError with an explanation if none comes."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}\n{explain()}"
        time.sleep(0.1)
    return value


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(
            source,
            target,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
    else:
        shutil.copy(source, target)
