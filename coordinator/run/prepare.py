"""What a run begins with: its data, its settings, and the checkpoint that it goes on from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coordinator.checkpointing.writer import Newest, find_newest
from coordinator.core.sharding import unsendable
from coordinator.core.sizes import Sizes, sizes_of, unmanageable
from coordinator.run.config import Settings, check_resumed
from coordinator.run.directory_owner import check_free, find_run_dir, holds_checkpoints
from microgpt.checkpoint.format import Checkpoint, load
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import check_lasting, check_named, load_dataset
from microgpt.data.documents import Dataset
from microgpt.model import parameter_shapes
from microgpt.replicas.recipe import recipe_of
from microgpt.strategies.base import StrategyError
from microgpt.strategies.registry import load_strategy
from microgpt.support.cli import UserError, say
from microgpt.support.progress import Progress
from microgpt.support.user_class import OwnCodeError
from microgpt.training import TrainingState, advance, from_checkpoint, initial_state, to_checkpoint


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
        divide(corpus, config)
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
    rate = saved.learning_rate
    changed = "" if rate is None else f", with the learning rate {rate:g} that it was changed to"
    say(f"resuming from {newest.path} after step {saved.step}{changed}")
    corpus = divide(make_corpus(dataset, config.seed, config.validation_fraction), config)
    require_sendable(config, settings, corpus)
    state = from_checkpoint(saved)
    require_fitting(config, state, newest.path)
    return Run(saved.run, config, dataset, corpus, state)


def make_corpus(dataset: Dataset, seed: int, validation_fraction: float) -> Corpus:
    """The documents in their order. Raises UserError if none is left to train on."""
    try:
        progress = Progress("encoding the documents")
        return Corpus(dataset.documents, seed, validation_fraction, progress)
    except ValueError as error:
        raise UserError(f"{dataset.name}: {error}") from error


def divide(corpus: Corpus, config: TrainingConfig) -> Corpus:
    """Give replicas documents of their own where the run wants it. Raises UserError."""
    try:
        return corpus.divide(config)
    except ValueError as error:
        raise UserError(str(error)) from error


def require_sendable(config: TrainingConfig, settings: Settings, corpus: Corpus) -> None:
    """Raise UserError if messages or checkpoints of this run would be too long for any reader."""
    reason = unsendable(config, settings.shard_size, corpus.longest)
    if reason := reason or unmanageable(find_sizes(config, corpus)):
        raise UserError(reason)


def find_sizes(config: TrainingConfig, corpus: Corpus) -> Sizes:
    """How long messages and checkpoints become. Raises UserError."""
    try:
        strategy = load_strategy(config.strategy, config.strategy_options)
        return sizes_of(config, strategy, corpus.longest)
    except (OwnCodeError, StrategyError) as error:
        raise UserError(str(error)) from error
    except Exception as error:  # whatever a file of the user's raises
        raise UserError(
            f"strategy {config.strategy}, or the compressor, cannot be used: "
            f"{type(error).__name__}: {error}"
        ) from error


def require_fitting(config: TrainingConfig, state: TrainingState, path: Path) -> None:
    """Raise UserError if what replicas keep is not what they keep in such a run."""
    recipe, shapes = recipe_of(config), parameter_shapes(config.model)
    for log in state.replicas:
        if not recipe.may_keep(log.snapshot.vectors, shapes):
            raise UserError(
                f"{path}: what replica {log.replica} keeps does not fit the run's settings"
            )


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


def prepare_adam(run: Run) -> None:
    """Compile or load it now: the first step must keep no worker and no Ctrl-C waiting."""
    state = run.state
    advance(run.config, state, np.zeros_like(state.params), [0.0] * run.config.batch_size)
