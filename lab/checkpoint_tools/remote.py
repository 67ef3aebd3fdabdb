"""``list`` and ``get`` of checkpoints that a coordinator serves."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lab.checkpoint_tools.table import Row, loss_text, print_table, validation_text
from lab.remote.fetch import call, fetch, is_address, list_all
from lab.terminal import UserError, to_json, visible
from microgpt.protocol.messages import Stored
from microgpt.support.atomic import write_atomically


def list_remote(options: argparse.Namespace) -> int:
    """Print a line for every checkpoint of the run at an address, the oldest first."""
    with call(options.directory, options.curve) as line:
        entries, omitted = list_all(line)
    if options.json:
        print(to_json([record(entry) for entry in entries], indent=2))
        return 0
    print_table((f"{'step':>8}", "loss", "validation", "bytes"), map(_row, entries))
    if omitted:
        print(f"and {omitted} older ones")
    return 0


def record(entry: Stored) -> dict[str, Any]:
    """As plain values."""
    if entry.problem:
        return {"step": entry.step, "good": False, "problem": entry.problem}
    validation = _validation(entry)
    return {
        "step": entry.step,
        "good": True,
        "size": entry.size,
        "last_loss": entry.loss,
        "validation": validation and {"step": validation[0], "loss": validation[1]},
    }


def _row(entry: Stored) -> Row:
    step = f"{entry.step:8d}"
    if entry.problem:
        return Row((step,), visible(entry.problem))
    validation = validation_text(entry.step, _validation(entry))
    return Row((step, loss_text(entry.loss), validation, str(entry.size)))


def _validation(entry: Stored) -> tuple[int, float] | None:
    if entry.validation_step is None or entry.validation_loss is None:
        return None
    return entry.validation_step, entry.validation_loss


def get(options: argparse.Namespace) -> int:
    """Write a checkpoint of the run at an address into a file."""
    if not is_address(options.address):
        raise UserError(f"{options.address} is no address such as tcp://HOST:5555")
    if options.step is not None and not 0 <= options.step < 1 << 62:
        raise UserError(f"no checkpoint is of step {options.step}")
    _check_place(options.output, options.force)  # before anything is fetched
    with call(options.address, options.curve) as line:
        loaded, data = fetch(line, options.step)
    path = options.output or f"step-{loaded.step:08d}.msgpack"
    _check_place(path, options.force)
    write_atomically(path, data)
    loss = loss_text(loaded.losses[-1]) if loaded.losses else "none yet"
    print(f"step {loaded.step}, loss {loss}: {len(data)} bytes in {visible(path)}")
    print(f"params_sha256  {loaded.params_sha256}")
    return 0


def _check_place(path: str | None, force: bool) -> None:
    if path == "":
        raise UserError("-o is empty: give the name of what to write")
    if path is not None and os.path.exists(path) and not force:
        raise UserError(f"{path} exists: give another -o, or --force to write over it")
