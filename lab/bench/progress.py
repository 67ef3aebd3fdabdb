"""What the benches share: lists of numbers on the command line, and progress on stderr."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from microgpt.support.progress import Progress, ticking

LOOK_SECONDS = 1.0
TAIL_BYTES = 4096  # of a record: more than its last line


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers of at least 1, with commas."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """A tuple of them."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = (0,)
        if min(numbers) < 1:
            self.fail(f"{value!r} is not made of whole numbers of at least 1, with commas")
        return numbers


class Steps:
    """Progress of the bench ``name`` over ``total`` measurements, each of which may take long."""

    def __init__(self, name: str, total: int) -> None:
        self._total, self._begun = total, 0
        self._progress = Progress(name, first=0.0)

    @contextmanager
    def next(self, what: str) -> Iterator[None]:
        """While the next one is taken. What is told meanwhile takes no processor."""
        done = self._begun
        self._begun += 1
        with ticking(lambda: self._progress(done, self._total, what)):
            yield


def follow(
    process: subprocess.Popen[Any], run_dir: Path, steps: int, tell: Callable[[float], None]
) -> int:
    """Wait for a run's process and ``tell`` what share of its steps is done. Its exit code."""
    tell(0.0)
    while True:
        try:
            return process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            tell(steps_done(run_dir) / steps)


def steps_done(run_dir: Path) -> int:
    """The last step in a run's record; 0 if there is none yet."""
    try:
        return int(last_record(run_dir)["step"])
    except (ValueError, KeyError):
        return 0


def last_record(run_dir: Path) -> dict[str, Any]:
    """The last whole line of a run's record of steps; empty if there is none yet."""
    try:
        with open(run_dir / "metrics.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        return dict(json.loads(whole[-1]))
    except (OSError, ValueError, TypeError, IndexError):
        return {}
