"""``python -m coordinator``: trains with the workers that connect to it."""

from __future__ import annotations

from microgpt.support import requirements  # isort: skip  # before what takes time to import
from microgpt.support import signals  # isort: skip  # before what takes time to import

signals.leave_quietly()
requirements.require("click", "msgpack", "numba", "numpy", "requests", "rich", "zmq")

import time

STARTED = time.monotonic()  # what people wait for includes our imports

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from coordinator.checkpointing.index import CheckpointIndex
from coordinator.checkpointing.server import CheckpointServer
from coordinator.checkpointing.writer import (
    NEWEST,
    CheckpointWriter,
    Newest,
    find_newest,
    remove_leftovers,
)
from coordinator.core.events import Finish
from coordinator.core.sharding import unsendable
from coordinator.core.state import CoordinatorState, Policy
from coordinator.event_loop import EventLoop
from coordinator.net.curve import require_safe_bind
from coordinator.net.private_socket import private_parent, remove_abandoned
from coordinator.net.router import MESSAGE_OVERHEAD, Transport
from coordinator.run.config import DEFAULT_BIND, Settings, check_resumed, coordinator_options
from coordinator.run.console import make_console
from coordinator.run.directory_owner import (
    OwnedRunDir,
    RunDirectoryError,
    check_free,
    find_run_dir,
    holds_checkpoints,
    link_latest,
)
from coordinator.run.run_directory import RunDirectory, fingerprint, versions
from microgpt.checkpoint.format import Checkpoint, CheckpointError, load
from microgpt.config import TrainingConfig
from microgpt.data.dataset import Dataset, DatasetError, check_lasting, check_named, load_dataset
from microgpt.model import parameter_shapes
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.parameters import num_params
from microgpt.sampling import generate
from microgpt.support import cli
from microgpt.support.cli import UserError, option, say
from microgpt.support.progress import Progress
from microgpt.support.streams import visible
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
@click.option("--lock", type=int, default=None, hidden=True, help="Descriptor: --run-dir, locked.")
@click.option("--announce", type=int, default=None, hidden=True, help="Descriptor: our address.")
@click.option("--started", type=(int, str), default=None, hidden=True, help="Workers: N, ENGINE.")
@click.pass_context
def main(
    context: click.Context,
    /,
    parent: int,
    lock: int | None,
    announce: int | None,
    started: tuple[int, str] | None,
    **flags: Any,
) -> int:
    """Train microGPT with the workers that connect: python -m worker --connect ADDRESS."""
    settings = Settings(**flags)
    require_safe_bind(settings.bind, settings.curve, settings.insecure)
    path = find_run_dir(settings.run_dir, settings.resume)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(clean_up_after, parent, settings.bind)
            directory: OwnedRunDir | None = None
            if path is not None and os.path.isdir(path):  # before we look into it
                directory = stack.enter_context(OwnedRunDir.take(path, lock))
            run = prepare(settings, cli.given(context), path)
            signals.leave_quietly()  # nothing to clean up or save before the server runs
            prepare_adam(run)
            transport = open_transport(run, settings)
            if directory is None:
                directory = stack.enter_context(
                    OwnedRunDir.take(path) if path else OwnedRunDir.new()
                )
                check_free(directory.path, run.id)  # others may have been quicker
            return conduct(run, settings, directory, transport, parent, announce, started)
    except (CheckpointError, DatasetError, RunDirectoryError) as error:
        raise UserError(str(error)) from error


def prepare(settings: Settings, explicit: set[str], directory: Path | None) -> Run:
    """Load the data, and the checkpoint to go on from if there is one.

    Raises RunDirError if ``directory``, to which the run will write, holds something else.
    """
    newest = find_resumed(settings, directory)
    if newest is None:
        if directory is not None:
            check_free(directory, None)
        check_lasting(settings.data)
        dataset = load_dataset(settings.data, report=say)
        corpus = make_corpus(dataset, settings.seed, settings.validation_fraction)
        config = settings.training(corpus.tokenizer.vocab_size)
        require_sendable(config, settings, corpus)
        run_id = os.urandom(8).hex()
        return Run(run_id, config, dataset, corpus, initial_state(config, corpus))
    for fault in newest.passed_over:
        say(f"warning: passed over: {fault}", error=True)
    saved = newest.checkpoint
    config = check_resumed(settings, explicit, saved.training)
    if config.steps < saved.step:
        raise UserError(f"--steps {config.steps} lies before step {saved.step} of the checkpoint")
    if directory is not None and os.path.isdir(directory):
        home = find_run_dir(None, str(newest.path)) or directory
        if not os.path.samefile(directory, home) or not holds_checkpoints(directory):
            check_free(directory, saved.run)
    spec = str(saved.data.get("name"))
    if "data" in explicit and (settings.data, spec) != ("names", "embedded"):
        spec = settings.data  # else: the run began without a network, and stays with what it had
        check_lasting(spec)
    else:
        check_named(spec)
    dataset = load_dataset(spec, report=say)
    if dataset.sha256 != saved.data.get("sha256"):
        raise UserError(
            f"the data differ: the checkpoint was trained on {saved.data.get('name')!r} with "
            f"SHA-256 {saved.data.get('sha256')}, {dataset.name!r} has {dataset.sha256}"
        )
    say(f"resuming from {newest.path} after step {saved.step}")
    corpus = make_corpus(dataset, config.seed, config.validation_fraction)
    require_sendable(config, settings, corpus)
    return Run(saved.run, config, dataset, corpus, from_checkpoint(saved))


def make_corpus(dataset: Dataset, seed: int, validation_fraction: float) -> Corpus:
    """The documents in their order. Raises UserError if none is left to train on."""
    try:
        progress = Progress("encoding the documents")
        return Corpus(dataset.documents, seed, validation_fraction, progress)
    except ValueError as error:
        raise UserError(f"{dataset.name}: {error}") from error


def require_sendable(config: TrainingConfig, settings: Settings, corpus: Corpus) -> None:
    """Raise UserError if the messages of this run would be too long for any worker or for us."""
    if reason := unsendable(config, settings.shard_size, corpus.longest):
        raise UserError(reason)


def find_resumed(settings: Settings, directory: Path | None) -> Newest | None:
    """The checkpoint that ``--resume`` means. Raises UserError if it means none."""
    if settings.resume is None:
        return None
    if settings.resume == "auto":
        return find_newest(directory) if directory else None
    path = Path(settings.resume)
    if not path.is_dir():
        return Newest(path, load(path), ())
    newest = find_newest(path.resolve())
    if newest is None:
        raise UserError(f"there is no checkpoint in {path} to resume from")
    return newest


def conduct(
    run: Run,
    settings: Settings,
    directory: OwnedRunDir,
    transport: Transport,
    parent: int,
    announce: int | None,
    started: tuple[int, str] | None,
) -> int:
    """Train, save, and show what came out. Returns the exit code."""
    config, path = run.config, directory.path
    parameters = num_params(parameter_shapes(config.model))
    record = RunDirectory(directory, describe(run, settings, path, started), run.state.step)
    remove_leftovers(path)
    link_latest(path)
    record.endpoint(transport.endpoint)
    directory.keep()
    tell_parent(announce, transport.endpoint)
    say(
        f"{len(run.corpus):,} documents of {run.dataset.name}, "
        f"vocabulary {config.model.vocab_size}, {parameters:,} parameters, "
        f"batch size {config.batch_size}"
    )
    if settings.keep_best and not config.validation_fraction:
        text = "--keep-best keeps nothing: it needs held-out documents (--validation-fraction)"
        say(f"warning: {text}", error=True)
    say(f"listening on {transport.endpoint}, writing to {path}")
    policy = Policy(
        settings.shard_size,
        settings.checkpoint_every,
        settings.worker_timeout,
        settings.verify_fraction,
        settings.eval_every,
        save_evaluated=settings.keep_best is not None,
    )
    epoch = os.urandom(8).hex()
    libm = libm_sha256()
    state = CoordinatorState(
        config, run.corpus, run.state, policy, run=run.id, epoch=epoch, libm=libm
    )
    console = make_console(config.steps, run.state.step, settings.quiet)
    checkpoint_server = CheckpointServer(CheckpointIndex(path, run.id, epoch), transport)
    server = EventLoop(state, transport, record, console, checkpoint_server, parent)
    writer = CheckpointWriter(path, run.checkpoint, server.report, settings.retention())
    before = time.monotonic() - STARTED
    try:
        finish, stopped_by = server.serve(writer)
        server.linger(settings.linger if run.state.step >= config.steps else 0.0)
        if not stopped_by:
            writer.close(DELETE_SECONDS)
    finally:
        console.close()
        writer.close(CLOSE_SECONDS)
        checkpoint_server.close(CLOSE_SECONDS)
        transport.close()
        record.close()
    steps = state.training.step - run.state.step
    took = state.times.summary(steps, before) if steps else ""
    return report(run, path, state.training, finish, stopped_by, took)


def prepare_adam(run: Run) -> None:
    """Compile or load it now: the first step must keep no worker and no Ctrl-C waiting."""
    state = run.state
    advance(run.config, state, np.zeros_like(state.params), [0.0] * run.config.batch_size)


def open_transport(run: Run, settings: Settings) -> Transport:
    """The socket, before anything of the run is written. Raises UserError."""
    largest = 8 * num_params(parameter_shapes(run.config.model)) + MESSAGE_OVERHEAD
    return Transport(settings.bind, largest, settings.worker_timeout, settings.curve)


def clean_up_after(parent: int, bind: str) -> None:
    """Remove the private folder of a supervisor that was killed, if there was one."""
    if parent and os.getppid() != parent and (folder := private_parent(bind)):
        remove_abandoned(folder)


def tell_parent(announce: int | None, endpoint: str) -> None:
    """Tell a supervisor that the run has begun, and where workers connect to."""
    if announce is not None:
        with contextlib.suppress(OSError):  # it has died: the server will notice
            os.write(announce, f"{endpoint}\n".encode(errors="surrogateescape"))
            os.close(announce)


def describe(
    run: Run, settings: Settings, run_dir: Path, started: tuple[int, str] | None
) -> dict[str, Any]:
    """What goes into ``config.json``.

    ``started``: how many workers ``train.py`` starts beside us, and with which engine. What each
    worker computes with that joins, from wherever, stands in ``events.jsonl``.
    """
    return {
        "run": run.id,
        "training": run.config.to_dict(),
        "data": run.dataset.fingerprint(),
        "settings": {**settings.to_dict(), "run_dir": str(run_dir)},
        "workers": {"number": started[0], "engine": started[1]} if started else None,
        "versions": versions(),
        "platform": fingerprint(),
    }


def report(
    run: Run, run_dir: Path, state: TrainingState, finish: Finish, stopped_by: int, took: str
) -> int:
    """Say how the run ended, how long it ``took``, and what it made. Returns the exit code."""
    path = run_dir / NEWEST
    sample = f"python scripts/sample.py {path}"
    if finish.outcome == "failed":
        return cli.complain(f"{finish.reason} (the state before is saved in {path})", 1)
    if finish.outcome == "stopped":
        say(f"{finish.reason}; to go on: python scripts/train.py --resume {run_dir}")
        return 128 + stopped_by if stopped_by else cli.INTERRUPTED
    say(f"{finish.reason}: {took}" if took else finish.reason)
    signals.leave_quietly()  # all is saved: Ctrl-C need not wait for the samples
    show_samples(run.checkpoint(state))
    say(f"checkpoint: {path}\nmore samples: {sample}")
    return 0


def show_samples(checkpoint: Checkpoint) -> None:
    """Print what the model invents, in continuation of the training's generator."""
    model, tokenizer = checkpoint.training.model, checkpoint.tokenizer
    names = generate(checkpoint.state_dict(), model, tokenizer, checkpoint.rng())
    try:
        for number, name in enumerate(names, 1):
            say(f"sample {number:2d}: {visible(name)}")
    except (ArithmeticError, ValueError):  # weights that a far too high learning rate has made
        say("no samples: the model's numbers overflow", error=True)


if __name__ == "__main__":
    cli.run(main, prog_name="python -m coordinator")
