"""Where the checkpoints of a run lie, and which is meant: the newest good one.

Needs msgpack alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem, check_model, load
from microgpt.model import GPTConfig

CHECKPOINTS = "checkpoints"
NEWEST = "checkpoint.msgpack"
STEP_FILE = re.compile(r"step-(\d{8}|[1-9]\d{8,17})\.msgpack", re.ASCII)


def step_path(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run_dir / CHECKPOINTS / f"step-{step:08d}.msgpack"


def stored_steps(run_dir: Path) -> list[int]:
    """Steps that have a file, in any order. Raises OSError."""
    names = os.listdir(run_dir / CHECKPOINTS)
    return [int(found[1]) for name in names if (found := STEP_FILE.fullmatch(name))]


@dataclass(frozen=True)
class Newest:
    """The newest good checkpoint of a run directory, and why others were passed over."""

    path: Path
    checkpoint: Checkpoint
    passed_over: tuple[str, ...]


def find_newest(run_dir: Path) -> Newest | None:
    """``checkpoint.msgpack``, or if that is damaged the good file with the highest step.

    Files with a higher step than ``checkpoint.msgpack`` do not count: they are those of a run that
    was resumed from an older file since, perhaps with another number of steps, and has not renamed
    them yet (``coordinator.checkpointing.given_up``). None if there is no checkpoint at all; raises
    CheckpointError if there are files and none is good.
    """
    paths = sorted(run_dir.glob(f"{CHECKPOINTS}/step-*.msgpack"), reverse=True)
    faults: list[str] = []
    for path in [run_dir / NEWEST, *paths]:
        try:
            return Newest(path, load(path), tuple(faults))
        except CheckpointError as error:
            if path.exists():
                faults.append(str(error))
    if faults:
        raise CheckpointError(f"no good checkpoint in {run_dir}: " + "; ".join(faults))
    return None


def load_newest(
    path: str | os.PathLike[str],
    model: GPTConfig | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Checkpoint:
    """The checkpoint in a file; or the newest good one of a run directory, or of a folder of files.

    ``model``: which is expected, if one is. ``report`` gets a line for each file that is passed
    over. Raises CheckpointError, also for a folder without checkpoints.
    """
    if not os.path.isdir(path):
        return load(path, model)
    found = find_newest(Path(path)) or _newest_of_files(Path(path))
    for fault in found.passed_over:
        report(f"passed over: {fault}")
    check_model(found.checkpoint, model, found.path)
    return found.checkpoint


def _newest_of_files(folder: Path) -> Newest:
    """The file with the highest step. Raises CheckpointError if none is good."""
    best: Newest | None = None
    faults: list[str] = []
    for path in sorted(folder.glob("[!.]*.msgpack")):  # those with a dot are half written
        try:
            loaded = load(path)
        except CheckpointError as error:
            faults.append(str(error))
        else:
            if best is None or loaded.step > best.checkpoint.step:
                best = Newest(path, loaded, ())
    if best is not None:
        return Newest(best.path, best.checkpoint, tuple(faults))
    if faults:
        raise CheckpointError(f"no good checkpoint in {folder}: " + "; ".join(faults))
    raise CheckpointError(f"{folder} holds no checkpoints", Problem.MISSING)
