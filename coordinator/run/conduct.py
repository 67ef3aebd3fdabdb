"""A run from its first step to the last line on the console: wires the rooms together."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path
from typing import Any

from coordinator.checkpointing.given_up import SUFFIX, set_aside
from coordinator.checkpointing.index import CheckpointIndex
from coordinator.checkpointing.server import CheckpointServer
from coordinator.checkpointing.writer import NEWEST, CheckpointWriter, remove_leftovers
from coordinator.core.actions import Finish
from coordinator.core.events import Level
from coordinator.core.sizes import LARGEST
from coordinator.core.state import CoordinatorState, Policy
from coordinator.event_loop import EventLoop
from coordinator.net.router import MESSAGE_OVERHEAD, Transport
from coordinator.run.config import Settings
from coordinator.run.directory_owner import OwnedRunDir, link_latest
from coordinator.run.event_log import Limit
from coordinator.run.laboratory import Laboratory
from coordinator.run.make_console import make_console
from coordinator.run.pace import summary
from coordinator.run.prepare import Run, find_sizes
from coordinator.run.run_directory import RunDirectory, fingerprint, versions
from microgpt.checkpoint.format import Checkpoint
from microgpt.model import parameter_shapes
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.parameters import num_params
from microgpt.sampling import generate
from microgpt.strategies.base import Promise
from microgpt.strategies.registry import load_strategy
from microgpt.support import cli, signals
from microgpt.support.cli import say
from microgpt.support.invocation import call_of
from microgpt.support.streams import visible
from microgpt.training import TrainingState

DELETE_SECONDS = 2.0  # for the checkpoints that the last one makes superfluous
NAMES_BYTES = 4 << 10  # of a message, beside its numbers
CLOSE_SECONDS = 0.2  # for a disk that is not waited for any more


def open_transport(run: Run, settings: Settings) -> Transport:
    """The socket, before anything of the run is written. Raises UserError."""
    sizes = find_sizes(run.config, run.corpus)
    documents = min(max(run.config.batch_size, len(run.corpus.validation)), LARGEST)
    usual = sizes.answer + 8 * documents + NAMES_BYTES  # an answer for the largest shard
    largest = max(sizes.answer, sizes.state) + MESSAGE_OVERHEAD
    return Transport(settings.bind, largest, settings.curve, usual, sizes.taking_over)


def conduct(
    run: Run,
    settings: Settings,
    directory: OwnedRunDir,
    transport: Transport,
    started_at: float,
    parent: int,
    announce: int | None,
    started: tuple[int, str] | None,
    laboratory: Laboratory,
) -> int:
    """Train, save, and show what came out. Returns the exit code.

    ``started_at``: when this process began, on the monotonic clock. ``parent``, ``announce`` and
    ``started`` come from the process that has started us; see ``describe`` and ``tell_parent``.
    ``laboratory`` says what it makes the run meet.
    """
    config, path = run.config, directory.path
    parameters = num_params(parameter_shapes(config.model))
    strategy = load_strategy(config.strategy, config.strategy_options)
    described = describe(run, settings, path, started, laboratory, strategy.promise)
    least = Policy().recording(strategy).events  # what the run needs to be replayed
    limit = Limit(settings.events_limit, least)
    give_up_later(path, run.state)
    record = RunDirectory(directory, described, run.state.step, limit)
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
    say(f"strategy {config.strategy}: {strategy.promise}: {strategy.promise.meaning}")
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
        events=Level(settings.events),
        snapshot_every=settings.snapshot_every,
    )
    epoch = os.urandom(8).hex()
    libm = libm_sha256()
    state = CoordinatorState(
        config, run.corpus, run.state, policy, run=run.id, epoch=epoch, libm=libm,
        strategy=strategy, lap=transport.clock.lap, traffic=transport.traffic,
    )  # fmt: skip
    console = make_console(config.steps, run.state.step, settings.quiet)
    checkpoint_server = CheckpointServer(CheckpointIndex(path, run.id, epoch), transport)
    server = EventLoop(state, transport, record, console, checkpoint_server, parent)
    writer = CheckpointWriter(path, run.checkpoint, server.report, settings.retention())
    laboratory.begin(server.report)
    before = time.monotonic() - started_at
    gc.freeze()  # what is here by now stays: looking through it again and again takes 4 % of a step
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
    took = summary(state.times, steps, before) if steps else ""
    return report(run, path, state.training, finish, stopped_by, took)


def give_up_later(path: Path, state: TrainingState) -> None:
    """Set those checkpoints aside that do not belong to what has led to ``state``."""
    try:
        aside = set_aside(path, state.step, state.next_document)
    except OSError as error:
        say(f"warning: later checkpoints cannot be renamed: {error.strerror}", error=True)
        return
    if aside:
        many = "1 checkpoint" if len(aside) == 1 else f"{len(aside)} checkpoints"
        say(f"{many} of an attempt that is given up, to step {aside[-1]}: now named *{SUFFIX}")


def tell_parent(announce: int | None, endpoint: str) -> None:
    """Tell a supervisor that the run has begun, and where workers connect to."""
    if announce is not None:
        with contextlib.suppress(OSError):  # it has died: the server will notice
            os.write(announce, f"{endpoint}\n".encode(errors="surrogateescape"))
            os.close(announce)


def describe(
    run: Run,
    settings: Settings,
    run_dir: Path,
    started: tuple[int, str] | None,
    laboratory: Laboratory,
    promise: Promise,
) -> dict[str, Any]:
    """What goes into ``config.json``. ``promise``: that of the strategy, for the bits.

    ``started``: how many workers ``train.py`` starts beside us, and with which engine. What each
    worker computes with that joins, from wherever, stands in ``events.jsonl``.
    """
    return {
        "run": run.id,
        "training": run.config.to_dict(),
        "promise": promise.value,
        "data": run.dataset.fingerprint(),
        "settings": {**settings.to_dict(), "run_dir": str(run_dir)},
        "workers": {"number": started[0], "engine": started[1]} if started else None,
        "conditions": [*laboratory.conditions],
        "versions": versions(),
        "platform": fingerprint(),
    }


def report(
    run: Run, run_dir: Path, state: TrainingState, finish: Finish, stopped_by: int, took: str
) -> int:
    """Say how the run ended, how long it ``took``, and what it made. Returns the exit code."""
    path = run_dir / NEWEST
    sample = f"{call_of('sample')} {path}"
    if finish.outcome == "failed":
        return cli.complain(f"{finish.reason} (the state before is saved in {path})", 1)
    if finish.outcome == "stopped":
        say(f"{finish.reason}; to go on: {call_of('train')} --resume {run_dir}")
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
