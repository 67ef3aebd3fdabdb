"""Files of an attempt that was given up get another name, so that no start ever goes on from them.

A run that goes on from an older checkpoint leaves files of later steps behind. As long as
``checkpoint.msgpack`` is good they do not count. But were it damaged, the highest good step would:
one of another past than that of the record, which the metrics and a replay do not know.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from microgpt.checkpoint.format import CheckpointError, load
from microgpt.checkpoint.newest import step_path, stored_steps

SUFFIX = ".given-up"


def given_up_path(run_dir: Path, step: int) -> Path:
    """What the checkpoint of a step is called after the attempt that wrote it was given up."""
    path = step_path(run_dir, step)
    return path.with_name(path.name + SUFFIX)


def set_aside(run_dir: Path, step: int, documents: int) -> list[int]:
    """Rename the files that the past of a state does not know; returns their steps, in order.

    The run is about to go on after ``step`` steps, with so many ``documents`` used up. To be called
    before anything of this start is recorded. Files are renamed from the highest step down: of
    whatever a killed start leaves, the newest attempt that has a record is the one that has
    written it. Raises OSError.
    """
    try:
        steps = sorted(stored_steps(run_dir), reverse=True)
    except FileNotFoundError:
        return []
    aside = [each for each in steps if each > step or _is_later(run_dir, each, step, documents)]
    for each in aside:
        os.replace(step_path(run_dir, each), given_up_path(run_dir, each))
    return aside[::-1]


def forget(run_dir: Path, step: int) -> None:
    """The run has come to this step again: its file takes the place of the one given up."""
    with contextlib.suppress(OSError):  # in the way of nothing
        os.unlink(given_up_path(run_dir, step))


def _is_later(run_dir: Path, found: int, step: int, documents: int) -> bool:
    """Whether a good file is of the same step, after more rounds whose results were dropped."""
    if found != step:
        return False
    try:
        return load(step_path(run_dir, step)).next_document > documents
    except CheckpointError:
        return False  # people should decide
