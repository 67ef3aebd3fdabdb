"""``python -m coordinator``: trains with the workers that connect to it."""

from __future__ import annotations

from microgpt import interrupts  # isort: skip  # before what takes time to import

interrupts.leave_quietly()

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from coordinator.checkpoints import (
    NEWEST,
    CheckpointWriter,
    Newest,
    find_newest,
    remove_leftovers,
)
from coordinator.config import (
    DEFAULT_BIND,
    Settings,
    check_resumed,
    coordinator_options,
    link_latest,
    new_run_dir,
)
from coordinator.console import make_console
from coordinator.events import Finish
from coordinator.record import RunDirError, RunRecord, fingerprint, versions
from coordinator.security import require_safe_bind
from coordinator.server import Server
from coordinator.state import CoordinatorState, Policy
from coordinator.transport import MESSAGE_OVERHEAD, Transport
from microgpt import cli
from microgpt.checkpoint import Checkpoint, CheckpointError, load
from microgpt.cli import UserError, option
from microgpt.config import TrainingConfig
from microgpt.dataset import Dataset, DatasetError, load_dataset
from microgpt.model import parameter_shapes
from microgpt.parameters import num_params
from microgpt.sampling import generate
from microgpt.training import (
    Corpus,
    TrainingState,
    from_checkpoint,
    initial_state,
    to_checkpoint,
)

CLOSE_SECONDS = 1.5  # for the last checkpoint to reach a slow disk after Ctrl-C


@dataclass(frozen=True)
class Run:
    """A run about to begin or to go on."""

    id: str
    directory: Path
    config: TrainingConfig
    dataset: Dataset
    corpus: Corpus
    state: TrainingState

    def checkpoint(self, state: TrainingState) -> Checkpoint:
        """The state as a checkpoint of this run."""
        data = self.dataset.fingerprint()
        return to_checkpoint(self.config, state, self.corpus.tokenizer, data, self.id)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option("--bind", default=DEFAULT_BIND, help="Address for workers: tcp://HOST:PORT or ipc://PATH.")
@coordinator_options
@click.pass_context
def main(context: click.Context, /, **flags: Any) -> int:
    """Train microGPT with the workers that connect: python -m worker --connect ADDRESS."""
    settings = Settings(**flags)
    require_safe_bind(settings.bind, settings.curve, settings.insecure)
    try:
        run = prepare(settings, cli.given(context))
        return conduct(run, settings)
    except (CheckpointError, DatasetError, RunDirError) as error:
        raise UserError(str(error)) from error


def prepare(settings: Settings, explicit: set[str]) -> Run:
    """Load the data, and the checkpoint to go on from if there is one."""
    directory = settings.run_dir or new_run_dir()
    newest = find_resumed(settings, directory)
    if newest is None:
        if (directory / NEWEST).exists():
            raise UserError(
                f"{directory} holds a run already: --resume {directory} goes on with it"
            )
        dataset = load_dataset(settings.data, report=print)
        corpus = Corpus(dataset.documents, settings.seed)
        config = settings.training(corpus.tokenizer.vocab_size)
        run_id = os.urandom(8).hex()
        return Run(run_id, directory, config, dataset, corpus, initial_state(config, corpus))
    for fault in newest.passed_over:
        print(f"warning: passed over: {fault}", file=sys.stderr)
    saved = newest.checkpoint
    config = check_resumed(settings, explicit, saved.training)
    if settings.run_dir is None:
        parent = newest.path.absolute().parent
        directory = parent.parent if parent.name == "checkpoints" else parent
    spec = settings.data if "data" in explicit else str(saved.data.get("name"))
    dataset = load_dataset(spec, report=print)
    if dataset.sha256 != saved.data.get("sha256"):
        raise UserError(
            f"the data differ: the checkpoint was trained on {saved.data.get('name')!r} with "
            f"SHA-256 {saved.data.get('sha256')}, {dataset.name!r} has {dataset.sha256}"
        )
    print(f"resuming from {newest.path} after step {saved.step}")
    corpus = Corpus(dataset.documents, config.seed)
    return Run(saved.run, directory, config, dataset, corpus, from_checkpoint(saved))


def find_resumed(settings: Settings, directory: Path) -> Newest | None:
    """The checkpoint that ``--resume`` means. Raises UserError if it means none."""
    if settings.resume is None:
        return None
    if settings.resume == "auto":
        return find_newest(directory)
    path = Path(settings.resume)
    if not path.is_dir():
        return Newest(path, load(path), ())
    newest = find_newest(path.resolve())
    if newest is None:
        raise UserError(f"there is no checkpoint in {path} to resume from")
    return newest


def conduct(run: Run, settings: Settings) -> int:
    """Train, save, and show what came out. Returns the exit code."""
    config = run.config
    record = RunRecord(run.directory, describe(run, settings), run.state.step)
    remove_leftovers(run.directory)
    link_latest(run.directory)
    parameters = num_params(parameter_shapes(config.model))
    transport = Transport(
        settings.bind,
        8 * parameters + MESSAGE_OVERHEAD,
        settings.worker_timeout,
        settings.curve,
    )
    record.endpoint(transport.endpoint)
    print(
        f"{len(run.corpus):,} documents of {run.dataset.name}, "
        f"vocabulary {config.model.vocab_size}, {parameters:,} parameters, "
        f"batch size {config.batch_size}"
    )
    print(f"listening on {transport.endpoint}, writing to {run.directory}", flush=True)
    policy = Policy(
        settings.shard_size,
        settings.checkpoint_every,
        settings.worker_timeout,
        settings.verify_fraction,
    )
    life = os.urandom(8).hex()
    state = CoordinatorState(config, run.corpus, run.state, policy, run=run.id, life=life)
    console = make_console(config.steps, run.state.step, settings.quiet)
    server = Server(state, transport, record, console)
    writer = CheckpointWriter(run.directory, run.checkpoint, server.saved)
    began = time.monotonic()
    try:
        finish, stopped_by = server.serve(writer)
    finally:
        console.close()
        writer.close(CLOSE_SECONDS)
        transport.close()
        record.close()
    steps_done = state.training.step - run.state.step
    return report(run, state.training, finish, stopped_by, steps_done, time.monotonic() - began)


def describe(run: Run, settings: Settings) -> dict[str, Any]:
    """What goes into ``config.json``."""
    return {
        "run": run.id,
        "training": run.config.to_dict(),
        "data": run.dataset.fingerprint(),
        "settings": {**settings.to_dict(), "run_dir": str(run.directory)},
        "versions": versions(),
        "platform": fingerprint(),
    }


def report(
    run: Run, state: TrainingState, finish: Finish, stopped_by: int, steps: int, seconds: float
) -> int:
    """Say how the run ended and what it made. Returns the exit code."""
    path = run.directory / NEWEST
    sample = f"python scripts/sample.py {path}"
    if finish.outcome == "failed":
        return cli.complain(f"{finish.reason} (the state before is saved in {path})", 1)
    if finish.outcome == "stopped":
        print(f"{finish.reason}; to go on: python scripts/train.py --resume {run.directory}")
        terminated = stopped_by == signal.SIGTERM
        return cli.TERMINATED if terminated else cli.INTERRUPTED
    rate = f" in {seconds:.1f} s ({steps / seconds:.0f} steps/s)" if steps else ""
    print(f"{finish.reason}{rate}")
    checkpoint = run.checkpoint(state)
    names = generate(
        checkpoint.state_dict(), run.config.model, run.corpus.tokenizer, checkpoint.rng()
    )
    for number, name in enumerate(names, 1):
        print(f"sample {number:2d}: {name}")
    print(f"checkpoint: {path}\nmore samples: {sample}")
    return 0


if __name__ == "__main__":
    cli.run(main, prog_name="python -m coordinator")
