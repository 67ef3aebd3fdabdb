"""What a replay begins with: the run's settings, strategy, documents and first state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from coordinator.run.prepare import divide, make_corpus
from lab.replay.player import Training
from lab.replay.record import Leg, Place, ReplayError
from lab.replay.run_files import Checkpoints, Description
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import check_named, load_dataset
from microgpt.distribution import Distribution
from microgpt.engine import make_engine
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.parts import check_parts
from microgpt.strategies.registry import load_strategy
from microgpt.support.cli import say
from microgpt.support.user_class import absolute
from microgpt.training import TrainingState, from_checkpoint, initial_state

#: Settings of a distribution that may name a file of a user's own.
_SPECS = ("aggregate", "compress", "inner_optimizer", "outer_optimizer")


def make_training(
    description: Description, data: str | None, trusted: Sequence[str], engine: str
) -> Training:
    """What the run's bits follow from. ``data``: where the documents are, if not where they were.

    Raises ReplayError, and UserError or DatasetError for documents that cannot be had.
    """
    config = with_own_copies(description.training, trusted)
    strategy = make_strategy(config)
    corpus = load_corpus(description, config, data)
    if corpus.tokenizer.vocab_size != config.model.vocab_size:
        raise ReplayError("the model has not as many letters as the documents")
    return Training(config, corpus, make_engine(engine, config.model), strategy)


def make_strategy(config: TrainingConfig) -> Strategy:
    """The strategy of the run. Raises ReplayError."""
    try:
        strategy = load_strategy(config.strategy, config.strategy_options)
        check_parts(config)
    except StrategyError as error:
        raise ReplayError(str(error)) from error
    return strategy


def load_corpus(description: Description, config: TrainingConfig, data: str | None) -> Corpus:
    """The documents of the run, in their order."""
    spec = str(description.data.get("name")) if data is None else data
    if data is None:
        check_named(spec)
    dataset = load_dataset(spec, report=say)
    if dataset.sha256 != description.data.get("sha256"):
        raise ReplayError(
            f"the data differ: the run was trained on {description.data.get('name')!r} with "
            f"SHA-256 {description.data.get('sha256')}, {dataset.name!r} has {dataset.sha256}"
        )
    return divide(make_corpus(dataset, config.seed, config.validation_fraction), config)


def with_own_copies(config: TrainingConfig, trusted: Sequence[str]) -> TrainingConfig:
    """With the ``trusted`` files instead of those of the same name that the run names.

    A file is a program, and the record of a run may come from anywhere. Raises ReplayError if it
    names one that is not trusted.
    """
    plain = config.distribution.to_dict()
    own = {name: own_copy(plain[name], trusted) for name in _SPECS}
    strategy = own_copy(config.strategy, trusted)
    own_parts = Distribution.from_dict({**plain, **own})
    return replace(config, strategy=strategy, distribution=own_parts)


def own_copy(spec: str, trusted: Sequence[str]) -> str:
    """A name with its options, of ``FILE.py:Class[:OPTIONS]`` with the trusted file."""
    if ":" not in spec or (".py:" not in spec and not spec.endswith(".py")):
        return spec
    file, _, rest = spec.partition(".py:")
    name, colon, options = rest.partition(":")
    for ours in map(absolute, trusted):
        path, _, kind = ours.partition(".py:")
        if (PurePath(path).name, kind) == (PurePath(file).name, name):
            return f"{ours}{colon}{options}"
    wanted = f"{file}.py:{name}"
    raise ReplayError(f"the run uses {wanted}: to run that file, say so with --trust {wanted}")


def first_state(training: Training, legs: Sequence[Leg], checkpoints: Checkpoints) -> TrainingState:
    """The state in which the first leg begins: the beginning, or a checkpoint's.

    Raises ReplayError if that checkpoint is not there.
    """
    start = legs[0].epoch.start
    state = initial_state(training.config, training.corpus)
    if start == Place(0, 0):
        return state
    for _, saved in checkpoints.of(start.step):
        if saved.next_document == start.documents and len(saved.weights) == 8 * len(state.params):
            return from_checkpoint(saved)
    raise ReplayError(
        f"the record begins after step {start.step}, and there is no checkpoint of that step"
    )
