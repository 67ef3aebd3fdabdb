"""Checkpoints in formats of other programs, and back to the same bits.

Every format carries all of a checkpoint's body: the matrices (weights and Adam's means) in the
format's own way, everything else as settings in JSON.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from microgpt.checkpoint.export import as_json, as_npz, as_safetensors
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem


class Format(NamedTuple):
    """``write(path, checkpoint)`` and ``read(path)``; both raise CheckpointError."""

    write: Callable[[str, Checkpoint], None]
    read: Callable[[str], Checkpoint]


FORMATS = {
    "safetensors": Format(as_safetensors.write, as_safetensors.read),
    "npz": Format(as_npz.write, as_npz.read),
    "json": Format(as_json.write, as_json.read),
}


def recognise(path: str) -> str:
    """The format of a file or folder, by its first bytes. Raises CheckpointError."""
    if os.path.isdir(path):
        return "safetensors"
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise CheckpointError(f"{path} is not a file", Problem.FOREIGN)
        with open(path, "rb") as file:
            beginning = file.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist", Problem.MISSING) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if beginning.startswith(b"PK"):
        return "npz"
    if beginning.lstrip().startswith(b"{"):
        return "json"
    if beginning[8:9] == b"{":
        return "safetensors"
    raise CheckpointError(
        f"{path} is not in one of the formats {', '.join(FORMATS)}", Problem.FOREIGN
    )
