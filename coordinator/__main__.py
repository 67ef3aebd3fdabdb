"""``python -m coordinator``: trains with the workers that connect to it."""

from __future__ import annotations

from microgpt import interrupts  # isort: skip  # before what takes time to import

interrupts.leave_quietly()

import time

STARTED = time.monotonic()  # what people wait for includes our imports

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

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
from coordinator.library import CheckpointLibrary
from coordinator.record import RunDirError, RunRecord, fingerprint, versions
from coordinator.security import require_safe_bind
from coordinator.server import Server
from coordinator.sharding import unsendable
from coordinator.shelf import Shelf
from coordinator.state import CoordinatorState, Policy
from coordinator.transport import MESSAGE_OVERHEAD, Transport
from microgpt import cli
from microgpt.checkpoint import Checkpoint, CheckpointError, load
from microgpt.cli import UserError, option, say
from microgpt.config import TrainingConfig
from microgpt.dataset import Dataset, DatasetError, check_lasting, check_named, load_dataset
from microgpt.model import parameter_shapes
from microgpt.parameters import num_params
from microgpt.platform_bits import libm_sha256
from microgpt.sampling import generate
from microgpt.training import (
    Corpus,
    TrainingState,
    advance,
    from_checkpoint,
    initial_state,
    to_checkpoint,
)

DELETE_SECONDS = 2.0  # for the checkpoints that the last one makes superfluous
CLOSE_SECONDS = 0.2  # for a disk that is not waited for any more


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
@click.option("--parent", type=int, default=0, hidden=True, help="Stop when this process ends.")
@click.pass_context
def main(context: click.Context, /, parent: int, **flags: Any) -> int:
    """Train microGPT with the workers that connect: python -m worker --connect ADDRESS."""
    settings = Settings(**flags)
    require_safe_bind(settings.bind, settings.curve, settings.insecure)
    try:
        run = prepare(settings, cli.given(context))
        return conduct(run, settings, parent)
    except (CheckpointError, DatasetError, RunDirError) as error:
        raise UserError(str(error)) from error


def prepare(settings: Settings, explicit: set[str]) -> Run:
    """Load the data, and the checkpoint to go on from if there is one."""
    directory = settings.run_dir
    newest = find_resumed(settings)
    if newest is None:
        if directory is not None and (directory / NEWEST).exists():
            raise UserError(
                f"{directory} holds a run already: --resume {directory} goes on with it"
            )
        check_lasting(settings.data)
        dataset = load_dataset(settings.data, report=print)
        corpus = make_corpus(dataset, settings.seed, settings.validation_fraction)
        config = settings.training(corpus.tokenizer.vocab_size)
        require_sendable(config, settings, corpus)
        run_id = os.urandom(8).hex()
        directory = directory or new_run_dir()
        return Run(run_id, directory, config, dataset, corpus, initial_state(config, corpus))
    for fault in newest.passed_over:
        say(f"warning: passed over: {fault}", error=True)
    saved = newest.checkpoint
    config = check_resumed(settings, explicit, saved.training)
    if config.steps < saved.step:
        raise UserError(f"--steps {config.steps} lies before step {saved.step} of the checkpoint")
    if directory is None:
        parent = newest.path.absolute().parent
        directory = parent.parent if parent.name == "checkpoints" else parent
    spec = str(saved.data.get("name"))
    if "data" in explicit and (settings.data, spec) != ("names", "embedded"):
        spec = settings.data  # else: the run began without a network, and stays with what it had
        check_lasting(spec)
    else:
        check_named(spec)
    dataset = load_dataset(spec, report=print)
    if dataset.sha256 != saved.data.get("sha256"):
        raise UserError(
            f"the data differ: the checkpoint was trained on {saved.data.get('name')!r} with "
            f"SHA-256 {saved.data.get('sha256')}, {dataset.name!r} has {dataset.sha256}"
        )
    say(f"resuming from {newest.path} after step {saved.step}")
    corpus = make_corpus(dataset, config.seed, config.validation_fraction)
    require_sendable(config, settings, corpus)
    return Run(saved.run, directory, config, dataset, corpus, from_checkpoint(saved))


def make_corpus(dataset: Dataset, seed: int, validation_fraction: float) -> Corpus:
    """The documents in their order. Raises UserError if none is left to train on."""
    try:
        return Corpus(dataset.documents, seed, validation_fraction)
    except ValueError as error:
        raise UserError(f"{dataset.name}: {error}") from error


def require_sendable(config: TrainingConfig, settings: Settings, corpus: Corpus) -> None:
    """Raise UserError if the messages of this run would be too long for any worker or for us."""
    if reason := unsendable(config, settings.shard_size, corpus.longest):
        raise UserError(reason)


def find_resumed(settings: Settings) -> Newest | None:
    """The checkpoint that ``--resume`` means. Raises UserError if it means none."""
    if settings.resume is None:
        return None
    if settings.resume == "auto":
        return find_newest(settings.run_dir) if settings.run_dir else None
    path = Path(settings.resume)
    if not path.is_dir():
        return Newest(path, load(path), ())
    newest = find_newest(path.resolve())
    if newest is None:
        raise UserError(f"there is no checkpoint in {path} to resume from")
    return newest


def conduct(run: Run, settings: Settings, parent: int) -> int:
    """Train, save, and show what came out. Returns the exit code."""
    interrupts.leave_quietly()  # nothing to clean up, and nothing to save, before the server runs
    config = run.config
    prepare_adam(run)
    parameters = num_params(parameter_shapes(config.model))
    transport = open_transport(run, settings, 8 * parameters + MESSAGE_OVERHEAD)
    record = RunRecord(run.directory, describe(run, settings), run.state.step)
    remove_leftovers(run.directory)
    link_latest(run.directory)
    record.endpoint(transport.endpoint)
    say(
        f"{len(run.corpus):,} documents of {run.dataset.name}, "
        f"vocabulary {config.model.vocab_size}, {parameters:,} parameters, "
        f"batch size {config.batch_size}"
    )
    if settings.keep_best and not config.validation_fraction:
        text = "--keep-best keeps nothing: it needs held-out documents (--validation-fraction)"
        say(f"warning: {text}", error=True)
    say(f"listening on {transport.endpoint}, writing to {run.directory}")
    policy = Policy(
        settings.shard_size,
        settings.checkpoint_every,
        settings.worker_timeout,
        settings.verify_fraction,
        settings.eval_every,
        save_evaluated=settings.keep_best is not None,
    )
    life = os.urandom(8).hex()
    libm = libm_sha256()
    state = CoordinatorState(
        config, run.corpus, run.state, policy, run=run.id, life=life, libm=libm
    )
    console = make_console(config.steps, run.state.step, settings.quiet)
    library = CheckpointLibrary(Shelf(run.directory, run.id, life), transport)
    server = Server(state, transport, record, console, library, parent)
    writer = CheckpointWriter(run.directory, run.checkpoint, server.report, settings.retention())
    before = time.monotonic() - STARTED
    try:
        finish, stopped_by = server.serve(writer)
        server.linger(settings.linger if run.state.step >= config.steps else 0.0)
        if not stopped_by:
            writer.close(DELETE_SECONDS)
    finally:
        console.close()
        writer.close(CLOSE_SECONDS)
        library.close(CLOSE_SECONDS)
        transport.close()
        record.close()
    steps = state.training.step - run.state.step
    took = state.times.summary(steps, before) if steps else ""
    return report(run, state.training, finish, stopped_by, took)


def prepare_adam(run: Run) -> None:
    """Compile or load it now: the first step must keep no worker and no Ctrl-C waiting."""
    state = run.state
    advance(run.config, state, np.zeros_like(state.params), [0.0] * run.config.batch_size)


def open_transport(run: Run, settings: Settings, max_message_bytes: int) -> Transport:
    """The socket, before anything of the run is written. Raises UserError."""
    try:
        return Transport(settings.bind, max_message_bytes, settings.worker_timeout, settings.curve)
    except UserError:
        with contextlib.suppress(OSError):
            run.directory.rmdir()  # if it is ours: new and empty
        raise


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


def report(run: Run, state: TrainingState, finish: Finish, stopped_by: int, took: str) -> int:
    """Say how the run ended, how long it ``took``, and what it made. Returns the exit code."""
    path = run.directory / NEWEST
    sample = f"python scripts/sample.py {path}"
    if finish.outcome == "failed":
        return cli.complain(f"{finish.reason} (the state before is saved in {path})", 1)
    if finish.outcome == "stopped":
        say(f"{finish.reason}; to go on: python scripts/train.py --resume {run.directory}")
        return 128 + stopped_by if stopped_by else cli.INTERRUPTED
    say(f"{finish.reason}: {took}" if took else finish.reason)
    interrupts.leave_quietly()  # all is saved: Ctrl-C need not wait for the samples
    show_samples(run.checkpoint(state))
    say(f"checkpoint: {path}\nmore samples: {sample}")
    return 0


def show_samples(checkpoint: Checkpoint) -> None:
    """Print what the model invents, in continuation of the training's generator."""
    model, tokenizer = checkpoint.training.model, checkpoint.tokenizer
    names = generate(checkpoint.state_dict(), model, tokenizer, checkpoint.rng())
    try:
        for number, name in enumerate(names, 1):
            say(f"sample {number:2d}: {name}")
    except (ArithmeticError, ValueError):  # weights that a far too high learning rate has made
        say("no samples: the model's numbers overflow", error=True)


if __name__ == "__main__":
    cli.run(main, prog_name="python -m coordinator")
