"""The command ``microgpt``: every program of the project under one name.

The same flags and help as ``scripts/*.py`` and ``python -m coordinator|worker``. A program is
imported when it is called, so that ``microgpt sample`` needs no more than ``scripts/sample.py``.
"""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple


class Program(NamedTuple):
    """Where a program's ``main`` is, and one line about it. ``lean``: it needs msgpack alone."""

    module: str
    about: str
    lean: bool = False


PROGRAMS = {
    "train": Program("lab.launch.train", "Train on this machine: a coordinator and its workers."),
    "sample": Program("lab.sampler.command", "Invent documents with a trained model.", lean=True),
    "checkpoint": Program("lab.checkpoint_tools.command", "Look into checkpoints.", lean=True),
    "coordinator": Program("coordinator.__main__", "Train with the workers that connect."),
    "worker": Program("worker.__main__", "Compute gradients for a coordinator."),
    "simulate": Program("lab.simulation.command", "Thousands of fault schedules in a simulator."),
    "chaos": Program("lab.faults.command", "Real faults; the bits must not change."),
    "bench": Program("lab.bench.command", "Measure how fast this machine trains."),
    "tape": Program("lab.tape", "Look at the program that the tape engine records."),
}


def usage() -> str:
    """The help text."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {program.about}" for name, program in PROGRAMS.items()]
    return "\n".join(
        [
            "Usage: microgpt COMMAND [OPTIONS]...",
            "",
            "Train microGPT with many processes, and look at what happens.",
            "",
            "Commands:",
            *lines,
            "",
            "microgpt COMMAND --help tells more.",
        ]
    )


def main() -> None:
    """Run the program that the first argument names, and exit with its code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(usage())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    program = PROGRAMS.get(name)
    if program is None:
        import difflib

        near = difflib.get_close_matches(name, PROGRAMS, 1)
        hint = f"did you mean {near[0]}?" if near else "microgpt --help lists the commands"
        print(f"error: there is no command {name!r}: {hint}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    sys.argv[0] = f"microgpt {name}"
    run(name, program)


def run(name: str, program: Program) -> None:
    """Import and run a program; does not return."""
    if not program.lean:
        from microgpt.support import signals

        signals.leave_quietly()  # before what takes time to import
    try:
        command = importlib.import_module(program.module).main
    except ModuleNotFoundError as error:
        print(f"error: microgpt {name} needs {error.name}: pip install {error.name}",
              file=sys.stderr)  # fmt: skip
        sys.exit(1)
    if program.lean:
        from lab import terminal

        terminal.run(command)
    from microgpt.support import cli

    cli.run(command, prog_name=f"microgpt {name}")


if __name__ == "__main__":
    main()
