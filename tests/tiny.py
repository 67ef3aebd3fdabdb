"""A small checkpoint on disk, made in this process: what the tests of the scripts look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from microgpt import checkpoint
from microgpt.dataset import load_dataset
from tests.processes import NAMES


def save_tiny(made: checkpoint.Checkpoint, place: Path) -> Path:
    """Write ``made`` as a run that trained on a file beside it; returns the checkpoint's path."""
    data = place / "names.txt"
    data.write_text("\n".join(NAMES) + "\n")
    path = place / "checkpoint.msgpack"
    fingerprint = load_dataset(str(data)).fingerprint()
    checkpoint.save(path, replace(made, data=fingerprint, run="tiny"))
    return path
