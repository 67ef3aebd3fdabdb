"""Our own programs as processes, for as long as something is measured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import click

LEAVE_SECONDS = 10.0  # for a program to end what it has started, once it is told to end
TOLD = 500  # characters of what a program said before it failed

Process: TypeAlias = "subprocess.Popen[Any]"


class Programs:
    """Processes, in the order of their commands, and what they all say in one ``log``."""

    def __init__(
        self, commands: Sequence[Sequence[str]], folder: Path, env: dict[str, str]
    ) -> None:
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.processes: list[Process] = [
                subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)  # noqa: S603  # ours
                for command in commands
            ]

    def check(self, code: int, expected: int = 0) -> None:
        """Raise ClickException, with what was said last, unless this exit code was expected."""
        if code != expected:
            raise click.ClickException(self.log.read_text(errors="replace").strip()[-TOLD:])

    def end(self) -> None:
        """Tell all that still run to end; kill those that do not."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(folder: Path, *commands: Sequence[str], **variables: str) -> Iterator[Programs]:
    """Start commands in ``folder``, with more environment variables; all have ended after this."""
    programs = Programs(commands, folder, {**os.environ, **variables})
    try:
        yield programs
    finally:
        programs.end()
