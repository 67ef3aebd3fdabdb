"""The run directory: what a run writes down beside its checkpoints.

``config.json`` says what ran, ``metrics.jsonl`` has one line per step, ``events.jsonl`` one line
per thing that happened, ``endpoint`` the address that workers connect to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from microgpt.cli import say
from microgpt.platform_bits import libm_sha256

PACKAGES = ("msgpack", "numba", "numpy", "pyzmq", "rich")
MAX_WAITING = 1 << 20  # bytes of lines that a full disk does not take


class RunDirError(Exception):
    """The run directory cannot be used; the message is one plain sentence."""


def fingerprint() -> dict[str, Any]:
    """The platform, as far as it decides bits: CPU, C library, and what its functions return."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "libm_sha256": libm_sha256(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that a run uses."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


class LineFile:
    """One JSON object per line, appended. A full disk costs a warning, not the training.

    What cannot be written waits in memory, up to a limit, and is written once there is room.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by close()
        self._waiting = b""
        self._failing = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; it is in the file when this returns, if there is room."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting += json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            self._write()
        except OSError as error:
            if not self._failing:
                say(f"warning: {self._path} cannot be written: {error.strerror}", error=True)
            self._failing = True
        else:
            if self._failing:
                say(f"{self._path} is written again")
            self._failing = False

    def close(self) -> None:
        """Write what waits, if there is room now, and close."""
        with contextlib.suppress(OSError):
            self._write()
        self._file.close()

    def _write(self) -> None:
        while self._waiting:
            written = self._file.write(self._waiting)
            self._waiting = self._waiting[written:]


class RunRecord:
    """Opens the files of a run directory for appending, and creates it where it is missing.

    ``keep_steps`` is the step that the run goes on from: later lines of the metrics are cut off,
    because those steps will be done again. Raises RunDirError.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any], keep_steps: int) -> None:
        self.run_dir = run_dir
        try:
            (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
            self._lock = self._take()
            self._write_text("config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
            self._cut_metrics(keep_steps)
            self._metrics = LineFile(run_dir / "metrics.jsonl")
            self._events = LineFile(run_dir / "events.jsonl")
        except OSError as error:
            raise RunDirError(f"cannot write to {run_dir}: {error.strerror}") from error

    def step(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics; it is in the file when this returns."""
        self._metrics.append(record)

    def event(self, record: Mapping[str, Any]) -> None:
        """Append a line to the events."""
        self._events.append(record)

    def endpoint(self, address: str) -> None:
        """Write down the address that workers connect to. Raises RunDirError."""
        try:
            self._write_text("endpoint", address + "\n")
        except OSError as error:
            raise RunDirError(f"cannot write to {self.run_dir}: {error.strerror}") from error

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._events):
            file.close()
        os.close(self._lock)

    def _take(self) -> int:
        """Lock the directory against other coordinators, until we close it or die."""
        descriptor = os.open(self.run_dir, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise RunDirError(f"another coordinator is writing to {self.run_dir}") from None
        except OSError:
            pass  # a file system without locks
        return descriptor

    def _write_text(self, name: str, text: str) -> None:
        temporary = self.run_dir / f".{name}.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.run_dir / name)

    def _cut_metrics(self, keep_steps: int) -> None:
        path = self.run_dir / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= keep_steps:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # the half line of a killed process
        self._write_text("metrics.jsonl", "".join(kept))
