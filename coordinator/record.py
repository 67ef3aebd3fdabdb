"""The run directory: what a run writes down beside its checkpoints.

``config.json`` says what ran, ``metrics.jsonl`` has one line per step, ``events.jsonl`` one line
per thing that happened, ``endpoint`` the address that workers connect to.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from typing import Any

PACKAGES = ("msgpack", "numba", "numpy", "pyzmq", "rich")


class RunDirError(Exception):
    """The run directory cannot be used; the message is one plain sentence."""


def fingerprint() -> dict[str, Any]:
    """The platform, as far as it decides bits: CPU, C library, and what its functions return."""
    points = [0.001 + 0.37 * i for i in range(2_000)]
    digest = hashlib.sha256()
    for x in points:
        for result in (math.exp(x % 50), math.log(x), x**-1.0, x**-0.5, x**0.5, x**2.0, x**-1.5):
            digest.update(result.hex().encode())
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "libm_sha256": digest.hexdigest(),
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


class RunRecord:
    """Opens the files of a run directory for appending, and creates it where it is missing.

    ``keep_steps`` is the step that the run goes on from: later lines of the metrics are cut off,
    because those steps will be done again. Raises RunDirError.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any], keep_steps: int) -> None:
        self.run_dir = run_dir
        try:
            (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
            self._write_text("config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
            self._cut_metrics(keep_steps)
            self._metrics = self._open("metrics.jsonl")
            self._events = self._open("events.jsonl")
        except OSError as error:
            raise RunDirError(f"cannot write to {run_dir}: {error.strerror}") from error

    def step(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics; it is in the file when this returns."""
        self._append(self._metrics, record)

    def event(self, record: Mapping[str, Any]) -> None:
        """Append a line to the events."""
        self._append(self._events, record)

    def endpoint(self, address: str) -> None:
        """Write down the address that workers connect to."""
        self._write_text("endpoint", address + "\n")

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._events):
            file.close()

    def _append(self, file: TextIOWrapper, record: Mapping[str, Any]) -> None:
        try:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
        except (OSError, ValueError) as error:
            # A full disk costs lines of the record, not the training.
            print(f"warning: {file.name} not written: {error}", file=sys.stderr)

    def _open(self, name: str) -> TextIOWrapper:
        return open(self.run_dir / name, "a", encoding="utf-8")

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
