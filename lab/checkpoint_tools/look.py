"""``show``, ``list`` and ``verify``: what checkpoints hold, and whether they are good."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.checkpoint_tools.table import Row, loss_text, print_table, validation_text
from lab.terminal import FAILED, UserError, complain, to_json, visible, warn
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem
from microgpt.checkpoint.newest import load_newest
from microgpt.strategies.promises import PROMISES

PATTERN = "*.msgpack"


@dataclass(frozen=True)
class Found:
    """A file with the checkpoint in it, or what is wrong."""

    path: Path
    loaded: Checkpoint | None
    error: CheckpointError | None

    def record(self) -> dict[str, Any]:
        """As plain values."""
        if self.loaded is None:
            problem = None if self.error is None else self.error.problem
            return {"file": str(self.path), "good": False, "problem": problem}
        return {
            "file": str(self.path),
            "good": True,
            "step": self.loaded.step,
            "last_loss": self.loaded.losses[-1] if self.loaded.losses else None,
            "validation": validation_of(self.loaded),
            "run": self.loaded.run,
            "num_params": self.loaded.num_params,
            "state_sha256": self.loaded.state_sha256,
        }


def show(options: argparse.Namespace) -> int:
    """Print what one checkpoint holds."""
    contents = describe(load_newest(options.file, report=warn))
    if options.json:
        print(to_json(contents, indent=2))
    else:
        show_lines(contents)
    return 0


def describe(loaded: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, as plain values."""
    return {
        "run": loaded.run,
        "step": loaded.step,
        "next_document": loaded.next_document,
        "num_params": loaded.num_params,
        "params_sha256": loaded.params_sha256,
        "state_sha256": loaded.state_sha256,
        "last_loss": loaded.losses[-1] if loaded.losses else None,
        "validation": validation_of(loaded),
        "promise": promise_of(loaded.training.strategy),
        "learning_rate": loaded.learning_rate,
        "training": loaded.training.to_dict(),
        "tokenizer": {"chars": loaded.tokenizer.chars, "vocab_size": loaded.tokenizer.vocab_size},
        "data": dict(loaded.data),
        "slots": {name: len(x) // 8 for name, x in loaded.distributed.slots.items()} or None,
        "replicas": replicas_of(loaded),
        "shapes": {name: list(shape) for name, shape in loaded.shapes.items()},
    }


def promise_of(strategy: str) -> str | None:
    """What a strategy of this name promises for the bits: ``exact`` or ``replayable``.

    None of a user's own, whose file is not run to look into a checkpoint.
    """
    promise = PROMISES.get(strategy)
    return None if promise is None else promise.value


def validation_of(loaded: Checkpoint) -> dict[str, Any] | None:
    """The loss of the held-out documents, if any has been computed."""
    return None if loaded.validation is None else loaded.validation._asdict()


def replicas_of(loaded: Checkpoint) -> dict[str, Any] | None:
    """How many replicas there are, what the first one keeps, and what they must do again."""
    replicas = loaded.distributed.replicas
    if not replicas:
        return None
    return {
        "number": len(replicas),
        "tasks": sum(one.clock + len(one.since) for one in replicas),
        "to_do_again": sum(len(one.since) for one in replicas),
        "each_keeps": {name: len(x) // 8 for name, x in replicas[0].vectors.items()} or None,
    }


def show_lines(contents: dict[str, Any], indent: str = "") -> None:
    """Print nested maps as ``key  value`` lines, without what there is not."""
    width = max((len(visible(key)) for key in contents), default=0)
    for key, value in contents.items():
        if value is None:
            continue
        name = visible(key)
        if isinstance(value, dict):
            print(f"{indent}{name}")
            show_lines(value, indent + "  ")
        else:
            text = " x ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{indent}{name:{width}}  {visible(str(text))}")


def list_directory(options: argparse.Namespace) -> int:
    """Print a line for every checkpoint of a run directory, the oldest first."""
    found = sorted(map(examine, files_of(Path(options.directory))), key=_age)
    if options.json:
        print(to_json([each.record() for each in found], indent=2))
        return 0
    print_table(("file", "step", "loss", "validation", "params", "state"), map(_row, found))
    return 0


def _row(found: Found) -> Row:
    name, loaded = visible(str(found.path)), found.loaded
    if loaded is None:
        return Row((name,), str(found.error.problem) if found.error else "")
    loss = loaded.losses[-1] if loaded.losses else None
    validation = validation_text(loaded.step, loaded.validation)
    size, state = str(loaded.num_params), loaded.state_sha256[:12]
    return Row((name, str(loaded.step), loss_text(loss), validation, size, state))


def verify(options: argparse.Namespace) -> int:
    """Say of every file whether it is a good checkpoint. Returns 1 if one is not."""
    paths: list[Path] = []
    for name in options.files:
        paths += files_of(Path(name)) if os.path.isdir(name) else [Path(name)]
    found = [examine(path) for path in paths]
    if options.json:
        print(to_json([each.record() for each in found], indent=2))
    for each in found:
        if each.loaded is None:
            complain(str(each.error))
        elif not options.json:
            print(f"{visible(str(each.path))}: good, step {each.loaded.step}")
    return 0 if all(each.loaded for each in found) else FAILED


def examine(path: Path) -> Found:
    """Load a file; what is wrong with it is part of the answer."""
    try:
        return Found(path, checkpoint_format.load(path), None)
    except CheckpointError as error:
        return Found(path, None, error)


def files_of(directory: Path) -> Iterator[Path]:
    """The checkpoint files of a run directory, or of a directory of such files.

    Raises CheckpointError if there are none or the directory cannot be read.
    """
    if not os.path.exists(directory):  # unlike Path.exists, for no name an OSError
        raise CheckpointError(f"{directory} does not exist", Problem.MISSING)
    if not os.path.isdir(directory):
        raise UserError(f"{directory} is no directory: 'show' and 'verify' take files")
    try:
        paths = [*directory.glob(PATTERN), *directory.glob(f"checkpoints/{PATTERN}")]
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be read: {error.strerror}") from error
    paths = [path for path in paths if not path.name.startswith(".")]  # those are half written
    if not paths:
        raise CheckpointError(f"{directory} holds no checkpoints", Problem.MISSING)
    return iter(sorted(paths))


def _age(found: Found) -> tuple[int, str]:
    return (-1 if found.loaded is None else found.loaded.step, str(found.path))
