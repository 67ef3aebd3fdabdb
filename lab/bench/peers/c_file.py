"""Compiles a C program that the user names, and times whole runs of it.

What it computes is its own affair: it is run as it is, in the folder where the user is, with
nothing on its input, and must end by itself. What it prints says how much work it has done.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lab.bench.peers.install import PeerError

COMPILER = ("cc", "-O3", "-march=native")
PATIENCE = 600.0  # seconds for one run
MOST_OUTPUT = 2000  # characters that are kept of what it prints: the last ones


@dataclass(frozen=True)
class CRun:
    """Wall time of one run in seconds, and the end of what it has printed."""

    seconds: float
    output: str


class CProgram:
    """A C file, compiled. Raises PeerError if it cannot be."""

    def __init__(self, source: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="microgpt-bench-")
        self._program = Path(self._folder.name, "program")
        command = [*COMPILER, str(source), "-o", str(self._program), "-lm"]
        done = _run(command, PATIENCE)
        if done.returncode:
            self.close()
            raise PeerError(f"{source} cannot be compiled: {_reason(done.stderr)}")
        self._source = source

    def run(self) -> CRun:
        """Run it once. Raises PeerError if it fails or takes too long."""
        began = time.perf_counter()
        done = _run([str(self._program)], PATIENCE)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise PeerError(f"{self._source} ends with {done.returncode}")
        return CRun(seconds, done.stdout.strip()[-MOST_OUTPUT:])

    def close(self) -> None:
        """Remove what was compiled."""
        self._folder.cleanup()


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # what the user asks for
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PeerError(f"{command[0]} did not run: {error}") from error


def _reason(text: str) -> str:
    errors = [line for line in text.splitlines() if "error" in line]
    return (errors or text.splitlines() or ["no reason given"])[0][:300]
