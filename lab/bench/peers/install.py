"""Installs a peer into a virtual environment of its own, and runs it there."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import click

from microgpt.support.cache_directory import cache_folder

HERE = Path(__file__).resolve().parent
#: What pip is asked to install for each peer.
PEERS: dict[str, tuple[str, ...]] = {"torch": ("torch", "numpy"), "jax": ("jax",)}


class PeerError(Exception):
    """A peer could not be installed or did not run."""


def run_peer(peer: str, task: dict[str, Any], program: str = "") -> list[dict[str, Any]]:
    """The peer's loss and seconds for every batch of the task. Raises PeerError.

    ``program``: the file here that runs the peer, if it is not called after it.
    """
    program = program or f"with_{peer}.py"
    try:
        done = subprocess.run(  # noqa: S603  # our own program
            [str(_installed(peer)), str(HERE / program)],
            input=json.dumps(task),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise PeerError(f"{program} did not run: {done.stderr.strip()[-500:]}")
        answers: list[dict[str, Any]] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise PeerError(f"{program} did not run: {error}") from error
    return answers


def _installed(peer: str) -> Path:
    cache = cache_folder()
    if cache is None:
        raise PeerError(f"there is no home directory to install {peer} in: set MICROGPT_CACHE_DIR")
    folder = cache / f"peer-{peer}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (folder / "ready").exists():
        click.echo(f"installing {peer} into {folder} (once)", err=True)
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PEERS[peer]]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise PeerError(f"pip could not install {peer}: {done.stderr.strip()[-500:]}")
        (folder / "ready").write_text("")
    return python
