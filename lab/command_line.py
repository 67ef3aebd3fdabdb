"""The command ``microgpt``: every program of the project under one name.

The same flags and help as ``scripts/*.py`` and ``python -m coordinator|worker``. A program is
imported when it is called, so that ``microgpt sample`` needs no more than ``scripts/sample.py``.
"""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple, NoReturn

from microgpt.support import signals, startup
from microgpt.support.invocation import COMMAND, call_of


class Program(NamedTuple):
    """Where a program's function ``main`` is, and one line about it.

    ``lean``: it needs msgpack alone.
    """

    module: str
    about: str
    lean: bool = False
    main: str = "main"


PROGRAMS = {
    "train": Program("lab.launch.train", "Train on this machine: a coordinator and its workers."),
    "sample": Program("lab.sampler.command", "Invent documents with a trained model.", lean=True),
    "anatomy": Program("lab.anatomy", "How a document goes through a model.", lean=True),
    "checkpoint": Program("lab.checkpoint_tools.command", "Look into checkpoints.", lean=True),
    "strategies": Program("lab.listing", "List strategies, compressors, rules and optimizers."),
    "check-strategy": Program("lab.checking.command", "Does one of your own obey the laws?"),
    "compare-strategies": Program(
        "lab.comparing", "All strategies at equal documents and equal bytes."
    ),
    "experiment": Program("lab.experiments.command", "Run the cases of a file; table and report."),
    "coordinator": Program("coordinator.__main__", "Train with the workers that connect."),
    "worker": Program("worker.__main__", "Compute gradients for a coordinator."),
    "aggregator": Program("aggregator.__main__", "Workers together, as one worker."),
    "workers": Program("lab.launch.workers_command", "The workers of a run: list, logs, stop."),
    "scale": Program(
        "lab.launch.workers_command", "Change the number of workers of a run.", main="scale"
    ),
    "runs": Program("lab.report.runs", "List the runs of a folder, and how they ended."),
    "compare": Program("lab.report.compare", "Put runs side by side; where do they part?"),
    "report": Program("lab.report.command", "Write a page about runs that can be kept."),
    "page": Program("lab.page.command", "Show a run in a browser, live or afterwards."),
    "top": Program("lab.top.command", "Show a run on a terminal, live or afterwards."),
    "export": Program("lab.export.command", "Hand a run to TensorBoard, trackio or wandb."),
    "replay": Program("lab.replay.command", "Compute a run anew from its record; same bits?"),
    "simulate": Program("lab.simulation.command", "Thousands of fault schedules in a simulator."),
    "chaos": Program("lab.faults.command", "Real faults; the bits must not change."),
    "bench": Program("lab.bench.command", "Measure how fast this machine trains."),
    "tape": Program("lab.tape", "Look at the program that the tape engine records."),
}


#: What to install where it has not the name of what is imported.
PACKAGES = {"zmq": "pyzmq"}


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
    signals.leave_quietly()  # before what takes time to import
    startup.begins()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    program = PROGRAMS.get(name)
    if program is None:
        from lab import terminal

        terminal.run(lambda: answer(name))
    del sys.argv[1]
    sys.argv[0] = f"{COMMAND} {name}"
    run(name, program)


def answer(name: str) -> int:
    """What is said where a program should be named and is not. Returns the exit code."""
    from lab import terminal

    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if name else 2
    if name == "--version":
        print(terminal.VERSION)
        return 0
    from difflib import get_close_matches

    near = get_close_matches(name, PROGRAMS, 1)
    hint = f"did you mean {near[0]}?" if near else f"{COMMAND} --help lists the commands"
    terminal.complain(f"there is no command {name!r}: {hint}")
    return 2


def run(name: str, program: Program) -> NoReturn:
    """Import and run a program; it ends with its exit code, or 1 if a package is missing."""
    try:
        command = getattr(importlib.import_module(program.module), program.main)
    except ModuleNotFoundError as error:
        from lab import terminal

        package = (error.name or "").partition(".")[0]
        package = PACKAGES.get(package, package)
        text = f"{call_of(name)} needs {package}: pip install {package}"
        terminal.run(lambda: terminal.complain(text))
    if program.lean:
        from lab import terminal

        terminal.run(command)
    from microgpt.support import cli

    cli.run(command, prog_name=f"{COMMAND} {name}")


if __name__ == "__main__":
    main()
