"""Look at the tape: ``python scripts/tape.py show --length 5``."""

from __future__ import annotations

import click

from microgpt.engine.fuse import PASSES
from microgpt.engine.schedule import schedule
from microgpt.engine.tape import Tape
from microgpt.engine.tracer import record
from microgpt.model import GPTConfig
from microgpt.support import cli


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
    """Print the program, its size before and after every pass, and its instructions."""
    try:
        config = GPTConfig(vocab_size, n_layer, n_embd, n_head, length)
    except ValueError as error:
        raise cli.UserError(str(error)) from error
    tape = record(config)
    click.echo(f"recorded: {tape.statistics()}")
    for fusing in PASSES:
        tape = fusing(tape).validate()
        click.echo(f"{fusing.__name__}: {tape.statistics()}")
    if not statistics:
        click.echo("\n".join(tape.lines()))
    show_instructions(tape)


def show_instructions(tape: Tape) -> None:
    """Print what each position runs: so many results of one operation at once."""
    for position, groups in enumerate(schedule(tape)):
        names = ", ".join(f"{group.op.name.lower()}*{len(group.members)}" for group in groups)
        click.echo(f"position {position}: {len(groups)} instructions: {names}")
