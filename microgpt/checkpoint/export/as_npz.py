"""NumPy's npz: one array per matrix, and the settings as JSON in the text array ``settings``.

``numpy.load(file)`` reads it. It is read here piece by piece instead, because an npz may announce
arrays of any size, and compressed ones that it does not hold.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any

from microgpt.checkpoint.export.portable import (
    needs,
    parse_json,
    put_together,
    read_bytes,
    take_apart,
)
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem, write_atomically

SETTINGS = "settings"
_BROKEN = (
    ValueError, TypeError, KeyError, EOFError, OSError, RuntimeError, SyntaxError, MemoryError,
    OverflowError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def write(path: str, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError if NumPy is missing or the file cannot be written."""
    try:
        import numpy as np
    except ImportError as error:
        raise needs("numpy", "npz", error) from error
    portable = take_apart(checkpoint)
    arrays: dict[str, Any] = {
        name: np.frombuffer(data, "<f8").reshape(portable.shapes[name])
        for name, data in portable.matrices.items()
    }
    arrays[SETTINGS] = np.array(json.dumps(portable.settings), "<U")
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_atomically(path, file.getvalue())


def read(path: str) -> Checkpoint:
    """Raises CheckpointError, saying what is wrong."""
    data = read_bytes(path)
    try:
        from numpy.lib import format as npy
    except ImportError as error:
        raise needs("numpy", "npz", error) from error
    try:
        arrays = _membership(data, npy)
        settings = arrays.pop(SETTINGS, b"").decode("utf-32-le")
    except _BROKEN as error:
        raise CheckpointError(f"{path} is damaged: {error}", Problem.DAMAGED) from error
    if not settings:
        raise CheckpointError(f"{path} is no export of this program", Problem.FOREIGN)
    return put_together(arrays, parse_json(settings, path), path)


def _membership(data: bytes, npy: Any) -> dict[str, bytes]:
    """The bytes of each array by name. Raises one of many errors if the archive is strange."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("it announces more than it holds")
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            arrays[name] = _array(archive.read(entry), "<U" if name == SETTINGS else "<f8", npy)
    return arrays


def _array(data: bytes, kind: str, npy: Any) -> bytes:
    """The numbers or letters in the bytes of one npy file. ValueError for another ``kind``."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"it has an array of npy version {version}")
    _, columns_first, dtype = npy.read_array_header_1_0(file)
    if columns_first or not dtype.str.startswith(kind):
        raise ValueError(f"it has an array of {dtype.str}, not of {kind} row by row")
    return file.read()
