"""The run directory: what a run writes down beside its checkpoints.

``config.json`` says what ran, ``metrics.jsonl`` has one line per step, ``events.jsonl`` one line
per event (``docs/events.md``), ``endpoint`` the address that workers connect to.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from coordinator.core.events import Recorded
from coordinator.run.directory_owner import CONFIG, OwnedRunDir, cannot_write
from coordinator.run.event_log import AT_ONCE, EventLog, Limit
from coordinator.run.line_file import LineFile, encoded
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.support.cli import say

PACKAGES = ("msgpack", "llvmlite", "numpy", "pyzmq", "rich")


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


class RunDirectory:
    """Opens the files of a run directory for appending, and creates what is missing.

    ``keep_steps`` is the step that the run goes on from: later lines of the metrics are cut off,
    because those steps will be done again. ``limit``: to the record of events. A run that comes
    back goes on also if the disk is too full to note its settings once more. Raises RunDirError.
    """

    def __init__(
        self,
        directory: OwnedRunDir,
        config: Mapping[str, Any],
        keep_steps: int,
        limit: Limit | None = None,
    ) -> None:
        self._directory, self._path = directory, directory.path
        metrics, events = (self._path / name for name in ("metrics.jsonl", "events.jsonl"))
        checkpoints = self._path / "checkpoints"
        try:
            for path in (checkpoints, metrics, events):
                directory.will_make(path)
            checkpoints.mkdir(exist_ok=True)
            self._note(CONFIG, json.dumps(config, indent=2, ensure_ascii=False))
            cut_metrics(metrics, keep_steps)
            self._metrics, self._events = LineFile(metrics), EventLog(events, limit)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def step(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics; it is in the file after the next ``flush``."""
        self._metrics.add(record)

    def event(self, recorded: Recorded) -> None:
        """Append a line to the events; it is in the file within a fraction of a second."""
        self._events.add(recorded)

    def settle(self) -> None:
        """Do a little of what is to be done. For moments in which nothing else is."""
        self._metrics.settle(AT_ONCE)
        self._events.settle()

    def flush(self, *, events: bool = False) -> None:
        """Write the metrics. Before a checkpoint: its steps must not be missing in them.

        The ``events``, too, where the rounds that have led to it must be known to replay it.
        """
        self._metrics.flush()
        if events:
            self._events.flush()

    def endpoint(self, address: str) -> None:
        """Write down the address that workers connect to. Raises RunDirError."""
        try:
            self._note("endpoint", address)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._events):
            file.close()

    def _note(self, name: str, text: str) -> None:
        """Replace a file; where one is there already, failing is but a warning. Raises OSError."""
        path, data = self._path / name, encoded(text + "\n")
        self._directory.will_make(path)
        try:
            replace_file(path, data)
        except OSError as error:
            if not path.exists():
                raise
            if path.read_bytes() != data:
                say(f"warning: {path} cannot be written: {error.strerror}", error=True)


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one go. Raises OSError; nothing is left behind then."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def cut_metrics(path: Path, keep_steps: int) -> None:
    """Cut off the lines of later steps, and what is no whole line. Raises OSError.

    They are the last ones, so that this needs no room on the disk.
    """
    if not path.exists():
        return
    data = path.read_bytes()
    kept = b"".join(line for line in data.splitlines(True) if _is_kept(line, keep_steps))
    if data.startswith(kept):
        if data != kept:
            os.truncate(path, len(kept))
    else:
        replace_file(path, kept)


def _is_kept(line: bytes, keep_steps: int) -> bool:
    try:
        return line.endswith(b"\n") and bool(json.loads(line)["step"] <= keep_steps)
    except (ValueError, KeyError, TypeError):
        return False  # the half line of a killed process
