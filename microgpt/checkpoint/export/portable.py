"""What all formats share: a checkpoint as named matrices and settings, and back.

Matrices are named ``weights/wte``, ``adam_m/layer0.attn_wq``, ... and are bytes of little-endian
binary64, row by row. Settings are what JSON can hold; floats keep their bits there, as Python
writes the shortest digits that give them back. An export has the version of the checkpoint format
whose body it holds. Needs no NumPy.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microgpt.checkpoint.format import (
    MAX_BYTES,
    VERSION,
    Checkpoint,
    CheckpointError,
    Problem,
    from_body,
    to_body,
)

FORMAT = "microgpt-export"
PARTS = ("weights", "adam_m", "adam_v")


@dataclass(frozen=True)
class Portable:
    """``matrices`` (bytes) and ``shapes`` (rows, columns) by name; ``settings``: plain values."""

    matrices: dict[str, bytes]
    shapes: dict[str, tuple[int, int]]
    settings: dict[str, Any]


def take_apart(checkpoint: Checkpoint) -> Portable:
    """All of a checkpoint."""
    body = to_body(checkpoint)
    matrices = {f"{part}/{name}": data for part in PARTS for name, data in body.pop(part).items()}
    shapes = {f"{part}/{n}": shape for part in PARTS for n, shape in checkpoint.shapes.items()}
    rng = {**body["rng"], "words": body["rng"]["words"].hex()}
    distributed = _to_text(body["distributed"])
    settings = {
        **body,
        "rng": rng,
        "distributed": distributed,
        "state_sha256": checkpoint.state_sha256,
    }
    return Portable(matrices, shapes, {"format": FORMAT, "version": VERSION, **settings})


def put_together(matrices: Mapping[str, bytes], settings: Any, where: str) -> Checkpoint:
    """The inverse of ``take_apart`` for whatever a file holds. Raises CheckpointError."""
    body = dict(check_settings(settings, where))
    version = body.pop("version")
    digest = body.pop("state_sha256", None)
    rng = body.get("rng")
    if isinstance(rng, dict) and isinstance(rng.get("words"), str):
        words = rng["words"]
        body["rng"] = {**rng, "words": bytes.fromhex(words) if _is_hex(words) else None}
    if "distributed" in body:
        body["distributed"] = _from_text(body["distributed"])
    for part in PARTS:
        prefix = f"{part}/"
        body[part] = {
            name.removeprefix(prefix): data
            for name, data in matrices.items()
            if name.startswith(prefix)
        }
    checkpoint = from_body(body, where, version)
    if digest not in (None, checkpoint.state_sha256):  # who changes something may leave it out
        raise CheckpointError(
            f"{where} is damaged: its digest does not match its contents", Problem.DAMAGED
        )
    return checkpoint


def check_settings(settings: Any, where: str) -> dict[str, Any]:
    """The settings with their version, if they are those of an export. Raises CheckpointError."""
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise CheckpointError(f"{where} is no export of this program", Problem.FOREIGN)
    version = settings.get("version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{where} is damaged: it has no format version", Problem.DAMAGED)
    if version > VERSION:
        raise CheckpointError(
            f"{where} has export format {version}; this program reads up to {VERSION}: update the "
            "program",
            Problem.NEWER,
        )
    return {key: value for key, value in settings.items() if key != "format"}


def parse_json(text: str | bytes, where: str) -> Any:
    """Strict JSON of any origin. Raises CheckpointError, also for a key that stands there twice."""
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged: {error}", Problem.DAMAGED) from error


def read_bytes(path: str) -> bytes:
    """A file's bytes. Raises CheckpointError."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise CheckpointError(f"{path} is not a file", Problem.FOREIGN)
        if os.path.getsize(path) > MAX_BYTES:
            raise CheckpointError(
                f"{path} is larger than any checkpoint of this program", Problem.FOREIGN
            )
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist", Problem.MISSING) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def needs(package: str, what: str, error: ImportError) -> CheckpointError:
    """The complaint about an optional package that is not installed."""
    return CheckpointError(f"{what} needs {package}: pip install {package} ({error})")


def _to_text(value: Any) -> Any:
    """With ``{"hex": digits}`` for bytes, wherever they are."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {key: _to_text(part) for key, part in value.items()}
    return [_to_text(part) for part in value] if isinstance(value, list) else value


def _from_text(value: Any) -> Any:
    """The inverse of ``_to_text``."""
    if isinstance(value, dict):
        digits = value.get("hex")
        if value.keys() == {"hex"} and isinstance(digits, str) and _is_hex(digits):
            return bytes.fromhex(digits)
        return {key: _from_text(part) for key, part in value.items()}
    return [_from_text(part) for part in value] if isinstance(value, list) else value


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and re.fullmatch("[0-9a-f]*", text) is not None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
