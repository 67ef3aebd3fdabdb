"""``launch.json`` in a run directory: which launcher has started the workers of a run.

With it any process of the user finds the workers again::

    {"version": 1, "launcher": "ray", "launch": "0123456789abcdef", "host": "head",
     "known_as": {"address": "10.0.0.1:6379"}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coordinator.run.directory_owner import OwnedRunDir
from microgpt.checkpoint.container import CheckpointError
from microgpt.support.atomic import write_atomically
from microgpt.support.cli import UserError

NAME = "launch.json"
VERSION = 1
MOST_BYTES = 64 << 10
LAUNCH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class LaunchRecord:
    """``launch``: see ``WorkerRequest``. ``host``: where the supervisor runs.

    ``known_as``: what the launcher itself needs to find its workers (``Launcher.known_as``).
    """

    launcher: str
    launch: str
    host: str
    known_as: Mapping[str, str] = field(default_factory=dict)

    def write(self, directory: OwnedRunDir) -> None:
        """Put it into the run directory. Raises UserError."""
        path = directory.path / NAME
        directory.will_make(path)
        self.write_to(path)

    def write_to(self, path: Path) -> None:
        """Put it into a file. Raises UserError."""
        text = json.dumps({"version": VERSION, **asdict(self)}, indent=2)
        try:
            write_atomically(path, f"{text}\n".encode())
        except CheckpointError as error:
            raise UserError(str(error)) from error


def read_launch(run_dir: Path) -> LaunchRecord:
    """The record in a run directory. Raises UserError."""
    path = run_dir / NAME
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{run_dir} has no {NAME}: no launcher has started its workers") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    record = _read(data)
    if record is None:
        raise UserError(f"{path} is no record of a launch")
    return record


def _read(data: bytes) -> LaunchRecord | None:
    try:
        plain = json.loads(data) if len(data) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(plain, dict):
        return None
    version = plain.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(
            f"{NAME} has version {version}, and this program knows {VERSION}: use a newer one"
        )
    words = [plain.get(name) for name in ("launcher", "launch", "host")]
    known_as = plain.get("known_as")
    strings = all(isinstance(word, str) for word in words) and isinstance(known_as, dict)
    if version != VERSION or not strings or not LAUNCH.fullmatch(str(words[1])):
        return None
    assert isinstance(known_as, dict)  # noqa: S101  # as was just found
    if not all(isinstance(word, str) for pair in known_as.items() for word in pair):
        return None
    return LaunchRecord(str(words[0]), str(words[1]), str(words[2]), known_as)
