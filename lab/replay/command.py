"""``python scripts/replay.py RUN``: compute a run anew from its record, and compare the bits."""

from __future__ import annotations

from pathlib import Path

import click

from coordinator.core.event_json import EventError
from lab.event_reader import EventReader
from lab.replay import player
from lab.replay.prepare import first_state, make_training
from lab.replay.record import Leg, ReplayError, legs, read
from lab.replay.run_files import Checkpoints, Losses, read_description, read_losses
from lab.replay.verdict import Verdict, compare
from microgpt.checkpoint.format import CheckpointError
from microgpt.data.documents import DatasetError
from microgpt.engine import ENGINES
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.support import cli
from microgpt.support.cli import UserError, option, say
from microgpt.support.progress import Progress


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--until", type=cli.Whole(1), help="Stop after this step.  [default: the last one]")
@option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0],
    help="How gradients are computed. Never changes the result.",
)  # fmt: skip
@click.option("--data", help="Where the documents are, if no longer where the run had them.")
@click.option(
    "--trust", multiple=True, metavar="FILE.py:CLASS",
    help="A strategy, compressor, optimizer or rule of the run's own that may be run. May be given "
    "several times.",
)  # fmt: skip
def main(
    run_dir: Path, until: int | None, engine: str, data: str | None, trust: tuple[str, ...]
) -> int:
    """Compute the run in RUN_DIR anew, in this process, and compare it with what it has left.

    The losses of all its steps and the state_sha256 of all its checkpoints must have the same bits.
    A run whose strategy lets timing decide follows its recorded rounds.
    """
    try:
        verdict = replay(run_dir, until, engine, data, trust)
    except (ReplayError, EventError, CheckpointError, DatasetError) as error:
        raise UserError(str(error)) from error
    for file in verdict.passed_over:
        say(f"warning: passed over: {file}", error=True)
    if verdict.difference:
        return cli.complain(verdict.difference, 1)
    steps = verdict.at.step - verdict.begin
    after = f" after step {verdict.begin}" if verdict.begin else ""
    say(f"replayed {steps} steps{after}: same bits as {compared(verdict)}")
    say(f"state_sha256 {verdict.state_sha256}")
    return 0


def replay(
    run_dir: Path, until: int | None, engine: str, data: str | None, trust: tuple[str, ...]
) -> Verdict:
    """Replay the run in ``run_dir``; see the flags of the command.

    Raises ReplayError, EventError, CheckpointError, DatasetError or UserError.
    """
    description = read_description(run_dir)
    if description.libm != libm_sha256():
        text = "the run was computed with another C library or processor: bits may differ"
        say(f"warning: {text}", error=True)
    losses, checkpoints = read_losses(run_dir), Checkpoints(run_dir, description.run)
    training = make_training(description, data, trust, engine)
    promise = training.strategy.promise
    say(f"strategy {training.config.strategy}: {promise}: {promise.meaning}")
    way = read_legs(run_dir, exact=training.exact)
    last = last_step(losses, checkpoints) if until is None else until
    states = player.play(training, way, first_state(training, way, checkpoints))
    begin = way[0].epoch.start.step
    verdict = Verdict()
    progress = Progress("replaying", say)
    for verdict in compare(states, training, losses, checkpoints, last):
        progress(verdict.at.step - begin, last - begin, f"step {verdict.at.step} of {last}")
    verdict.begin = begin
    verdict.passed_over = (*checkpoints.faults, *verdict.passed_over)
    wanted = checkpoints.last if until is None else until
    if not verdict.difference and verdict.at.step < wanted:
        verdict.difference = f"the record leads to step {verdict.at.step}, and not to step {wanted}"
    if not verdict.difference and not verdict.losses + verdict.checkpoints:
        verdict.difference = "there is no loss and no checkpoint to compare with"
    return verdict


def read_legs(run_dir: Path, *, exact: bool) -> list[Leg]:
    """The parts of the record that have led to the run's end. Raises ReplayError or EventError."""
    reader = EventReader(run_dir)
    try:
        epochs = read(reader.one_by_one())
    except OSError as error:
        raise ReplayError(f"{reader.path} cannot be read: {error.strerror}") from error
    if not epochs:
        raise ReplayError(f"{reader.path} tells of nothing")
    return legs(epochs, exact=exact)


def last_step(losses: dict[int, Losses], checkpoints: Checkpoints) -> int:
    """How far the run came, as far as it can be compared."""
    return max([checkpoints.last, *losses])


def compared(verdict: Verdict) -> str:
    """With how much the replay was compared."""
    many = "1 checkpoint" if verdict.checkpoints == 1 else f"{verdict.checkpoints} checkpoints"
    return f"{many} and {verdict.losses} recorded losses"
