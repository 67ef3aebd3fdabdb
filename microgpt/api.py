"""Training from Python, for notebooks: the same bits as any cluster.

``train`` runs the very arithmetic that the coordinator and its workers share, with one engine in
this process; or it starts a coordinator and workers, or simulates them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from microgpt import cluster
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset
from microgpt.data.documents import Dataset, from_documents
from microgpt.engine import ENGINES, make_engine
from microgpt.model import GPTConfig
from microgpt.optim.adam import AdamConfig
from microgpt.result import TrainingResult as TrainingResult
from microgpt.result import load_run as load_run
from microgpt.result import sample as sample
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy
from microgpt.strategies.parts import check_parts, make_distribution, settled
from microgpt.strategies.registry import DEFAULT, load_strategy, name_of, options_of
from microgpt.support.progress import Progress
from microgpt.training import Validation, initial_state, to_checkpoint


def train(
    data: str | os.PathLike[str] | Iterable[str] = "names",
    *,
    steps: int = 1000,
    batch_size: int = 32,
    seed: int = 42,
    n_layer: int = 1,
    n_embd: int = 16,
    n_head: int = 4,
    block_size: int = 16,
    learning_rate: float = 0.01,
    beta1: float = 0.85,
    beta2: float = 0.99,
    eps: float = 1e-8,
    validation_fraction: float = 0.0,
    eval_every: int = 100,
    engine: str = ENGINES[0],
    strategy: str | Strategy = DEFAULT,
    strategy_options: Mapping[str, Any] | None = None,
    replicas: int = 0,
    aggregate: str = "mean",
    compress: str = "",
    error_feedback: bool | None = None,
    inner_optimizer: str = "",
    outer_optimizer: str = "",
    shard_by: str = "",
    workers: int | None = None,
    simulate: bool = False,
    link: str | Sequence[str] = (),
    progress: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train and return the outcome.

    ``data``: what ``--data`` takes (names, embedded, a path, a URL), a ``Path``, or documents.
    ``validation_fraction`` of the documents is not trained on; their loss is computed after every
    ``eval_every`` steps and after the last. ``strategy`` says how results become updates: a name,
    ``FILE.py:Class`` (with ``strategy_options``), or an object of your own (see
    ``microgpt.strategies.base``). ``replicas``, ``aggregate``, ``compress``, ``error_feedback``,
    ``shard_by`` and the optimizers are what the flags of ``scripts/train.py`` with these names are.

    Without ``workers`` all is computed in this process. With a number of them, a coordinator and so
    many worker processes are started, and none is left behind, however the call ends; a strategy
    of your own must then stand in a file. ``simulate`` plays the same with virtual workers in this
    process, in virtual time. ``link`` is what ``--link`` takes ("latency=20ms"), or several
    of it: what messages meet on their way.

    ``progress`` is called after each step with its number, from 1, and its loss in nats per token.
    The result has the bits of ``scripts/train.py`` with the same settings. Raises ValueError for
    settings that cannot be, DatasetError for unusable data, StrategyError for an unusable strategy,
    OwnCodeError for what a compressor or an optimizer of your own does wrong, ArithmeticError if
    training diverges (NonFiniteError where a document makes it), and RunError if a run with
    processes fails, with its last words.
    """
    if eval_every < 1:
        raise ValueError(f"eval_every must be at least 1, not {eval_every}")
    if isinstance(strategy, str):
        strategy = load_strategy(strategy, strategy_options)
    elif strategy_options:
        raise ValueError("strategy_options are for a strategy given by its name")
    dataset = _load(data)
    progress_of_encoding = Progress("encoding the documents")
    corpus = Corpus(dataset.documents, seed, validation_fraction, progress_of_encoding)
    model = GPTConfig(corpus.tokenizer.vocab_size, n_layer, n_embd, n_head, block_size)
    adam = AdamConfig(learning_rate, beta1, beta2, eps)
    config = TrainingConfig(
        model, adam, steps, batch_size, seed, validation_fraction,
        name_of(strategy), options_of(strategy),
        settled(make_distribution(
            replicas, aggregate, compress, error_feedback, inner_optimizer, outer_optimizer,
            shard_by,
        ), strategy),
    )  # fmt: skip
    check_parts(config)
    number = _checked_workers(workers, simulate, link)
    links = [link] if isinstance(link, str) else [*link]
    if number and not simulate:
        return cluster.run(
            config, dataset, number,
            engine=engine, eval_every=eval_every, link=links, progress=progress,
        )  # fmt: skip
    corpus.divide(config)
    if simulate:
        return cluster.simulate(
            strategy, config, dataset, corpus, number,
            engine=engine, eval_every=eval_every, link=links, progress=progress,
        )  # fmt: skip
    return _run(strategy, config, dataset, corpus, eval_every, engine, progress)


def _checked_workers(workers: int | None, simulate: bool, link: object) -> int:
    """How many workers there are to be, 0 for none. Raises ValueError for what cannot be."""
    if workers is None:
        if simulate or link:
            raise ValueError("simulate and link are about workers: say how many, as workers=4")
        return 0
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers!r}")
    return workers


def _load(data: str | os.PathLike[str] | Iterable[str]) -> Dataset:
    if isinstance(data, str):
        return load_dataset(data)
    if isinstance(data, os.PathLike):
        return load_dataset(os.path.join(".", data))  # a file, also if its name is "names"
    return from_documents(data)


def _run(
    strategy: Strategy,
    config: TrainingConfig,
    dataset: Dataset,
    corpus: Corpus,
    eval_every: int,
    engine_name: str,
    progress: Callable[[int, float], None] | None,
) -> TrainingResult:
    engine = make_engine(engine_name, config.model)
    began = time.monotonic()
    state = initial_state(config, corpus)
    losses: list[float] = []
    validations: list[Validation] = []
    states = serial.run(
        strategy, config, corpus, state, engine,
        evaluates=lambda step: step % eval_every == 0 or step == config.steps,
    )  # fmt: skip
    for state in states:
        losses.append(state.losses[-1])
        if state.validation is not None and state.validation.step == state.step:
            validations.append(state.validation)
        if progress is not None:
            progress(state.step, losses[-1])
    run = f"in-process-{config.seed}"
    fingerprint = dataset.fingerprint()
    checkpoint = to_checkpoint(config, state, corpus.tokenizer, fingerprint, run)
    seconds = time.monotonic() - began
    return TrainingResult(checkpoint, tuple(losses), tuple(validations), seconds)
