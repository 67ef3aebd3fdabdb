"""``bench.py whole``: the whole system beside a bare loop, the engine alone, and others.

Everything is measured in turns within one run, so that whatever else the machine does hits all
alike. What is compared with what, and how to read it, stands in ``docs/performance.md``.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from lab.bench import system, whole_table
from lab.bench.anatomy import Anatomy
from lab.bench.cells import Cell, Measured, Task, run_program, vocabulary
from lab.bench.figures import ratios
from lab.bench.peers import ddp
from lab.bench.peers.c_file import CProgram, CRun
from lab.bench.peers.install import PeerError
from lab.bench.progress import Numbers, Steps
from microgpt import __version__
from microgpt.data.documents import DatasetError
from microgpt.model import GPTConfig
from microgpt.support import cli
from microgpt.support.cli import say

VERSION = 1  # of the file


@dataclass(frozen=True)
class Plan:
    """What is to be measured. ``models``: the fields of GPTConfig, one for each width."""

    workers: tuple[int, ...]
    batches: tuple[int, ...]
    models: tuple[dict[str, int], ...]
    repeats: int
    seconds: float
    data: str
    ddp: bool
    c_files: tuple[Path, ...]

    def task(self, model: dict[str, int], workers: int = 1) -> Task:
        """For a program that measures all batch sizes in one go."""
        return Task(model, self.data, workers, self.batches, self.seconds)


@dataclass
class Outcome:
    """What has been found. ``problems``: of peers, by their names; ``c_runs`` by their files."""

    measured: list[Measured] = field(default_factory=list)
    anatomies: list[Anatomy] = field(default_factory=list)
    c_runs: dict[str, list[CRun]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def peer(self, name: str) -> Iterator[None]:
        """What goes wrong with a peer is told in one line, and costs nothing but its figures."""
        try:
            yield
        except PeerError as error:
            self.problems[name] = cli.printable(str(error))
            say(f"{name} is left out: {self.problems[name]}", error=True)


class Peer(click.ParamType[tuple[str, str]]):
    """``ddp``, or ``c=FILE.c``."""

    name = "peer"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """What kind of peer, and its file."""
        if isinstance(value, tuple):
            return value
        kind, _, file = str(value).partition("=")
        if not (kind == "c" and file) and value != "ddp":
            self.fail(f"{value!r} is neither ddp nor c=FILE.c")
        return kind, file


@click.command(context_settings={"show_default": True})
@click.option("--workers", type=Numbers(), default="1,2,4", help="Numbers of workers, with commas.")
@click.option("--batches", type=Numbers(), default="32,256,1024", help="Batch sizes.")
@click.option("--widths", type=Numbers(), default="16,32,64", help="Embedding widths.")
@click.option("--n-layer", type=cli.Whole(1), default=1, help="Transformer blocks.")
@click.option("--repeats", type=cli.Whole(1), default=3, help="Turns of everything.")
@click.option("--seconds", type=cli.Number(0.01), default=0.7, help="For each measurement.")
@click.option(
    "--peer", "peers", type=Peer(), multiple=True, help="ddp, or c=FILE.c.", show_default=False
)
@click.option("--data", default="names", help="Documents, as for training.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def whole(
    workers: tuple[int, ...],
    batches: tuple[int, ...],
    widths: tuple[int, ...],
    n_layer: int,
    repeats: int,
    seconds: float,
    peers: Sequence[tuple[str, str]],
    data: str,
    json_file: Path | None,
) -> None:
    """Compare whole steps with a bare loop of messages, with the engine alone, and with peers."""
    try:
        vocab_size = vocabulary(data)
        models = tuple(
            GPTConfig(vocab_size, n_layer=n_layer, n_embd=width).to_dict() for width in widths
        )
    except (DatasetError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    c_files = tuple(Path(file) for kind, file in peers if kind == "c")
    with_ddp = any(kind == "ddp" for kind, _ in peers)
    plan = Plan(workers, batches, models, repeats, seconds, data, with_ddp, c_files)
    outcome = carry_out(plan)
    whole_table.show(outcome.measured, outcome.anatomies, outcome.c_runs)
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(plan, outcome), indent=2) + "\n")


def carry_out(plan: Plan) -> Outcome:
    """Prepare what is compiled or recorded once, then measure turn by turn."""
    outcome, steps = Outcome(), Steps("whole", number_of_steps(plan))
    for model in plan.models:
        with steps.next(f"preparing width {model['n_embd']}"):
            run_program("lab.bench.engine_alone", Task(model, plan.data, 1, (1,), 0.0), 0)
    programs = dict(compiled(plan, outcome))
    try:
        for repeat in range(plan.repeats):
            for model in plan.models:
                measure_width(plan, outcome, steps, model, repeat)
            for file, program in programs.items():
                with steps.next(file), outcome.peer(file):
                    outcome.c_runs.setdefault(file, []).append(program.run())
    finally:
        for program in programs.values():
            program.close()
    return outcome


def compiled(plan: Plan, outcome: Outcome) -> Iterator[tuple[str, CProgram]]:
    """The C files that can be compiled, by their names."""
    for file in plan.c_files:
        with outcome.peer(str(file)):
            yield str(file), CProgram(file)


def measure_width(
    plan: Plan, outcome: Outcome, steps: Steps, model: dict[str, int], repeat: int
) -> None:
    """One turn of everything that has to do with a width."""
    width, found = model["n_embd"], outcome.measured
    turn = f"turn {repeat + 1} of {plan.repeats}, width {width}"
    with steps.next(f"{turn}, engine alone"):
        alone = run_program("lab.bench.engine_alone", plan.task(model), repeat)
    found += alone
    if plan.ddp:
        losses = {each.cell.batch: each.loss for each in alone if each.loss is not None}
        with steps.next(f"{turn}, ddp"):
            if "ddp" not in outcome.problems:
                with outcome.peer("ddp"):
                    found += ddp.measure(plan.task(model), repeat, losses)
    for workers in plan.workers:
        with steps.next(f"{turn}, workers: {workers}, bare loop"):
            found += run_program("lab.bench.bare_loop", plan.task(model, workers), repeat)
        for batch in plan.batches:
            flags = ["--data", plan.data, "--n-layer", str(model["n_layer"])]
            with steps.next(f"{turn}, workers: {workers}, batch {batch}"):
                cell = Cell(workers, batch, width)
                run, parts = system.measure(cell, repeat, plan.seconds, flags)
            found.append(run)
            outcome.anatomies += [parts] if parts is not None else []


def number_of_steps(plan: Plan) -> int:
    """How many things are measured or made ready."""
    turn = 1 + plan.ddp + len(plan.workers) * (1 + len(plan.batches))
    models = len(plan.models) * (1 + plan.repeats * turn)
    return models + plan.repeats * len(plan.c_files)


def to_json(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """All that was found, as ``docs/performance.md`` describes it."""
    return {
        "version": VERSION,
        "program": __version__,
        "machine": platform.platform(),
        "processors": len(os.sched_getaffinity(0)),
        "data": plan.data,
        "models": plan.models,
        "repeats": plan.repeats,
        "seconds": plan.seconds,
        "measured": [each.to_json() for each in outcome.measured],
        "anatomy": [each.to_json() for each in outcome.anatomies],
        "ratios": [each.to_json() for each in ratios(outcome.measured)],
        "c": {name: [vars(run) for run in runs] for name, runs in outcome.c_runs.items()},
        "problems": outcome.problems,
    }
