"""Look at the tape: ``python scripts/tape.py show --length 5``."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import click

from microgpt.engine.fuse import PASSES
from microgpt.engine.program import compile_tape
from microgpt.engine.schedule import schedule
from microgpt.engine.tape import Tape
from microgpt.engine.tracer import record
from microgpt.model import GPTConfig
from microgpt.support import cli

Result = TypeVar("Result")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look at the program that the tape engine records of the model."""


@main.command()
@click.option("--length", type=cli.Whole(1), default=2, help="Positions of the document.")
@click.option("--vocab-size", type=cli.Whole(1), default=27, show_default=True)
@click.option("--n-layer", type=cli.Whole(1), default=1, show_default=True)
@click.option("--n-embd", type=cli.Whole(1), default=16, show_default=True)
@click.option("--n-head", type=cli.Whole(1), default=4, show_default=True)
@click.option("--statistics", is_flag=True, help="Only the numbers, not the program.")
def show(
    length: int, vocab_size: int, n_layer: int, n_embd: int, n_head: int, statistics: bool
) -> None:
    """Print the program, its size before and after every pass, and its instructions.

    At the end stands what it took to make them.
    """
    try:
        config = GPTConfig(vocab_size, n_layer, n_embd, n_head, length)
    except ValueError as error:
        raise cli.UserError(str(error)) from error
    timing = _Timing()
    tape = timing.of("recording", lambda: record(config))
    click.echo(f"recorded: {tape.statistics()}")
    for fusing in PASSES:
        tape = timing.of("fusing", lambda: fusing(tape).validate())  # noqa: B023  # called at once
        click.echo(f"{fusing.__name__}: {tape.statistics()}")
    timing.of("lowering", lambda: compile_tape(tape))
    if not statistics:
        click.echo("\n".join(tape.lines()))
    show_instructions(tape)
    click.echo(timing.line())


class _Timing:
    """Adds up the processor time of what is called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def of(self, name: str, step: Callable[[], Result]) -> Result:
        """The result of a step, whose time counts under this name."""
        begin = time.process_time()
        result = step()
        self.seconds[name] += time.process_time() - begin
        return result

    def line(self) -> str:
        """All times, and the most memory that the process has had."""
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return f"processor time: {times}; memory at most {peak:.0f} MB"


def show_instructions(tape: Tape) -> None:
    """Print what each position runs: so many results of one operation at once."""
    for position, groups in enumerate(schedule(tape)):
        names = ", ".join(f"{group.op.name.lower()}*{len(group.members)}" for group in groups)
        click.echo(f"position {position}: {len(groups)} instructions: {names}")
