"""``export`` and ``import``: checkpoints in formats of other programs, and back."""

from __future__ import annotations

import argparse
import os

from lab.terminal import UserError, visible, warn
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.export import FORMATS, recognise
from microgpt.checkpoint.newest import load_newest


def export(options: argparse.Namespace) -> int:
    """Write a checkpoint in another format."""
    loaded = load_newest(options.file, report=warn)
    is_folder = options.format == "safetensors"
    if is_folder and options.output.endswith(".safetensors"):
        raise UserError("the safetensors format is a folder: give -o a name without an extension")
    _check_place(options.output, options.force)
    FORMATS[options.format].write(options.output, loaded)
    where = os.path.join(options.output, "") if is_folder else options.output
    print(f"exported step {loaded.step} to {visible(where)}")
    return 0


def import_(options: argparse.Namespace) -> int:
    """Write a checkpoint with what another format holds."""
    loaded = FORMATS[recognise(options.source)].read(options.source)
    _check_place(options.output, options.force)
    checkpoint_format.save(options.output, loaded)
    print(f"imported step {loaded.step} to {visible(options.output)}")
    print(f"state_sha256  {loaded.state_sha256}")
    return 0


def _check_place(path: str, force: bool) -> None:
    if not path:
        raise UserError("-o is empty: give the name of what to write")
    if os.path.exists(path) and not force:
        raise UserError(f"{path} exists: give another -o, or --force to write over it")
