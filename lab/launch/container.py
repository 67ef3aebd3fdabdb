"""What a container runs: coordinator, worker, aggregator, page, sample, keys or healthcheck.

Started as root, it takes the identity of the user whose folder ``runs`` is mounted, without any
privilege, before anything else. Then it puts the compiled code of the image where it may be
written to, and the program begins, in this very process: there is nobody else to pass signals on.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from lab.launch.container_keys import (
    AGGREGATOR_KEYS,
    BELOW_KEYS,
    KEYS,
    WORKER_KEYS,
    close_to_others,
    make_bundle,
    make_keys,
    tell_of_the_other_variable,
)
from microgpt.support.cli import UserError
from microgpt.support.invocation import ROOT

APP = ROOT
RUNS = APP / "runs"
OWNER = Path("/etc/microgpt/owner")  # a file of the clone: tells whose it is
KERNELS = Path("/opt/kernels")  # compiled when the image was built
#: Volumes that only a coordinator writes to, and only aggregators.
WRITTEN = (KEYS, WORKER_KEYS, Path("/cache"))
OF_AGGREGATORS = (AGGREGATOR_KEYS, BELOW_KEYS)
PORT, PAGE_PORT = 5555, 8080
PAGE_LINGERS = "5"  # seconds after the run
PROGRAMS = ("coordinator", "worker", "aggregator", "page", "sample", "keys", "healthcheck")
WITHOUT_RUNS = ("worker", "aggregator")


def main(arguments: list[str]) -> int:
    """Become the right user and the program. Returns the exit code."""
    role, *rest = arguments or ["--help"]
    if role == "healthcheck":
        return 0 if accepts_workers() else 1
    if role not in PROGRAMS:
        print(f"usage: {' | '.join(PROGRAMS)}, and the flags of that program", file=sys.stderr)
        return 0 if role in ("-h", "--help") else 2
    if os.geteuid() == 0:
        user, group = choose_user(os.environ, WORKER_KEYS if role in WITHOUT_RUNS else RUNS)
        for path in written_by(role):
            hand_over(path, user, group)
        become(user, group)
    if role == "sample":
        return sample(rest)
    if role == "page":
        return show_page(rest)
    try:
        prepare_keys(role, os.environ.get("MICROGPT_CURVE", ""), rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if role == "keys":
        return 0
    copy_kernels()
    complete = role == "coordinator" and not rest and is_complete()
    sys.argv = [role, *rest]
    try:
        runpy.run_module(role, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if role == "coordinator":
            say_how_to_go_on(code, complete)
        return code
    return 0


def written_by(role: str) -> tuple[Path, ...]:
    """The folders that a program writes to, which may be new volumes."""
    if role in ("coordinator", "keys"):
        return RUNS, *WRITTEN
    return OF_AGGREGATORS if role == "aggregator" else ()


# --- who we are ----------------------------------------------------------------------------------


def choose_user(environment: Mapping[str, str], folder: Path) -> tuple[int, int]:
    """User and group to run as: as told, or whose ``folder`` is, or else whose the clone is.

    ``folder`` is ``runs``; for a worker or an aggregator, which has none, that of its keys. Docker
    makes it as root where it is missing, so root as its owner tells nothing.
    """
    found = next(
        (entry for path in (folder, OWNER) if (entry := _stat(path)) and entry.st_uid != 0), None
    )
    user, group = (found.st_uid, found.st_gid) if found else (0, 0)
    try:
        user = int(environment.get("MICROGPT_UID") or user)
        group = int(environment.get("MICROGPT_GID") or group)
    except ValueError:
        sys.exit("error: MICROGPT_UID and MICROGPT_GID must be numbers, as 'id' prints them")
    return user, group


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def hand_over(path: Path, user: int, group: int) -> None:
    """Give a folder that Docker has made, or that another user ran with, to this user."""
    entry = _stat(path)
    if entry is None or (entry.st_uid, entry.st_gid) == (user, group):
        return
    if path == RUNS and entry.st_uid != 0:
        return  # somebody has chosen its owner
    try:
        os.chown(path, 0, 0)  # so that root may look into it, which has no other privilege
        if path != RUNS:
            for child in path.iterdir():
                if child.is_dir() and not child.is_symlink():
                    hand_over(child, user, group)
                else:
                    os.chown(child, user, group, follow_symlinks=False)
        os.chown(path, user, group)
    except OSError as error:
        print(f"warning: {path} stays as it is: {error.strerror}", file=sys.stderr)


def become(user: int, group: int) -> None:
    """Give up root for good, and every capability even where the user is root."""
    try:
        if user or group:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
    except OSError as error:
        sys.exit(f"error: cannot become user {user}, group {group}: {error.strerror}")
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface; this process
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing):
        sys.exit("error: cannot give up the capabilities of root")
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which setuid has cleared: /proc/self is ours
    if user == 0:
        print("the clone belongs to root: running as root, without capabilities", flush=True)


# --- before the program --------------------------------------------------------------------------


def prepare_keys(role: str, curve: str, names: list[str]) -> None:
    """Let this program find the keys that it needs, in the folder ``MICROGPT_CURVE``.

    ``keys`` makes a folder besides for workers of each of ``names``. Raises UserError.
    """
    if role == "worker":
        tell_of_the_other_variable(os.environ)
        return
    if role == "aggregator":
        if os.environ.get("MICROGPT_CURVE_BELOW"):
            for path in OF_AGGREGATORS:
                close_to_others(path)
            make_keys(AGGREGATOR_KEYS, BELOW_KEYS)
        return
    for path in (KEYS, WORKER_KEYS):
        close_to_others(path)
    if role == "keys":
        directory = Path(curve or KEYS)
        make_keys(directory)
        print(f"keys are in {directory}", flush=True)
        for name in names:
            print(f"for workers of {name}: {make_bundle(directory, name)}", flush=True)
    elif curve:
        make_keys(Path(curve), WORKER_KEYS if WORKER_KEYS.is_mount() else None)


def copy_kernels() -> None:
    """Put the image's compiled code where it is looked for: in a place that can be written to.

    On another kind of CPU than the image was built on, it is compiled anew there.
    """
    target = os.environ.get("MICROGPT_COMPILED_DIR")
    if target and KERNELS.is_dir() and not Path(target).exists():
        try:
            shutil.copytree(KERNELS, target)
        except (OSError, shutil.Error) as error:
            print(f"warning: compiled code not copied to {target}: {error}", file=sys.stderr)


def run_directory() -> Path:
    """Of the run that the variables name."""
    return APP / os.environ.get("MICROGPT_RUN_DIR", "runs/docker")


def is_complete() -> bool:
    """Whether there is nothing left to do in this run, which people are told."""
    from microgpt.checkpoint import format as checkpoint_format

    path = run_directory() / "checkpoint.msgpack"
    try:
        saved = checkpoint_format.load(path)
        steps = int(os.environ.get("MICROGPT_STEPS") or saved.training.steps)
    except (checkpoint_format.CheckpointError, ValueError):
        return False  # there is no checkpoint, or the coordinator explains what is wrong
    if saved.step < steps:
        return False
    print(f"the run {path.parent.name!r} is complete: all {saved.step} steps are done", flush=True)
    return True


def say_how_to_go_on(code: int, was_complete: bool) -> None:
    """The last lines of a coordinator's log, in the words of Docker."""
    if code == 0:
        print("with Docker: docker compose run --rm sample", flush=True)
        if was_complete:
            print("a new run: MICROGPT_RUN=another-name docker compose up", flush=True)
    elif code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        print("with Docker: docker compose up goes on from here", flush=True)


# --- other programs ------------------------------------------------------------------------------


def sample(arguments: list[str]) -> int:
    """Sample from the newest checkpoint, or from the one that is named."""
    options = iter(arguments)
    named = any(not text.startswith("-") and text.endswith(".msgpack") for text in options)
    if not named:
        newest = newest_checkpoint()
        if newest is None:
            print("error: no checkpoint in runs yet: docker compose up makes one", file=sys.stderr)
            return 1
        print(f"samples from {newest.relative_to(APP)}", file=sys.stderr, flush=True)
        arguments = [str(newest), *arguments]
    sys.argv = ["sample.py", *arguments]
    from lab.sampler.command import main as draw
    from lab.terminal import run

    try:
        run(draw)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def show_page(arguments: list[str]) -> int:
    """Serve the page of the run until that is over and nobody watches."""
    print(f"the page's address: docker compose port page {PAGE_PORT}", flush=True)
    quiet = os.open(os.devnull, os.O_WRONLY)  # for an address that is none outside of the container
    flags = ["--host", "0.0.0.0", "--port", str(PAGE_PORT), "--linger", PAGE_LINGERS]  # noqa: S104  # Docker decides who reaches it
    sys.argv = ["page", str(run_directory()), *flags, "--announce", str(quiet), *arguments]
    try:
        runpy.run_module("lab.page", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def newest_checkpoint() -> Path | None:
    """Of the run that ``MICROGPT_RUN`` names, or else of all runs the one written last."""
    if name := os.environ.get("MICROGPT_RUN"):
        path = RUNS / name / "checkpoint.msgpack"
        return path if path.exists() else None
    found = [path for path in RUNS.glob("*/checkpoint.msgpack") if not path.parent.is_symlink()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def accepts_workers() -> bool:
    """Whether ZeroMQ greets whoever connects to the coordinator's port."""
    import socket

    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=2) as connection:
            connection.settimeout(2)
            greeting = connection.recv(10, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(greeting) == 10 and greeting[0] == 0xFF and greeting[9] == 0x7F
