"""A folder as a model hub expects it: ``model.safetensors``, ``config.json``, ``README.md``.

The weights stand alone in ``model.safetensors``, with the settings as JSON in its metadata; Adam's
means, which only a training needs, are in ``training_state.safetensors``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from microgpt.checkpoint.export.card import config_json, model_card
from microgpt.checkpoint.export.portable import needs, parse_json, put_together, take_apart
from microgpt.checkpoint.format import (
    MAX_BYTES,
    Checkpoint,
    CheckpointError,
    Problem,
    write_atomically,
)

MODEL, STATE = "model.safetensors", "training_state.safetensors"
WEIGHTS = "weights/"  # in the model's file matrices have their own names, without this
KEY = "microgpt"  # of the settings in the metadata


def write(path: str, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError if the package is missing or a file cannot be written."""
    try:
        import numpy as np
        from safetensors.numpy import save
    except ImportError as error:
        raise needs("safetensors", "this format", error) from error
    portable = take_apart(checkpoint)
    model: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for name, data in portable.matrices.items():
        array = np.frombuffer(data, "<f8").reshape(portable.shapes[name])
        if name.startswith(WEIGHTS):
            model[name.removeprefix(WEIGHTS)] = array
        else:
            state[name] = array
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be made a folder: {error.strerror}") from error
    write_atomically(folder / STATE, save(state))
    write_atomically(folder / MODEL, save(model, {KEY: json.dumps(portable.settings)}))
    write_atomically(folder / "config.json", config_json(checkpoint).encode())
    write_atomically(folder / "README.md", model_card(checkpoint).encode())


def read(path: str) -> Checkpoint:
    """From the folder, or its ``model.safetensors``. Raises CheckpointError."""
    folder = Path(path) if os.path.isdir(path) else Path(path).parent
    model, settings = _tensors(folder / MODEL if os.path.isdir(path) else Path(path))
    state, _ = _tensors(folder / STATE)
    matrices = {**{WEIGHTS + name: data for name, data in model.items()}, **state}
    if settings is None:
        raise CheckpointError(f"{path} is no export of this program", Problem.FOREIGN)
    return put_together(matrices, parse_json(settings, path), path)


def _tensors(path: Path) -> tuple[dict[str, bytes], str | None]:
    """Bytes of each tensor by name, and the settings if there are any."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise needs("safetensors", "this format", error) from error
    if not os.path.isfile(path):
        raise CheckpointError(f"{path} does not exist, or is not a file", Problem.MISSING)
    if os.path.getsize(path) > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than any checkpoint", Problem.FOREIGN)
    tensors = {}
    try:
        with safe_open(path, "numpy") as file:
            settings = (file.metadata() or {}).get(KEY)
            for name in file.keys():  # noqa: SIM118  # it is no map
                array = file.get_tensor(name)
                if array.dtype.str != "<f8":
                    raise ValueError(f"tensor {name!r} is not of float64")
                tensors[name] = array.tobytes()
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", Problem.DAMAGED) from error
    return tensors, settings
