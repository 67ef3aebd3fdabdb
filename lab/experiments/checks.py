"""Whether each case of an experiment can be run, before any is: mistakes come with their lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.condition_texts import ConditionError, read_conditions, with_policy
from lab.conditions import Conditions
from lab.experiments.expansion import Case
from lab.experiments.reading import ExperimentError, Source
from lab.experiments.settings import CONDITIONS, DEFAULTS, OWN_CODE
from microgpt.aggregation.base import AggregationError
from microgpt.aggregation.registry import load_aggregation
from microgpt.compression.base import CompressionError
from microgpt.compression.registry import load_compressor
from microgpt.config import TrainingConfig
from microgpt.data.dataset import check_lasting, is_url, load_dataset
from microgpt.data.documents import DatasetError
from microgpt.model import GPTConfig
from microgpt.optim.adam import AdamConfig
from microgpt.optim.optimizer import OptimizerError
from microgpt.optim.registry import load_optimizer
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.parts import check_parts, make_distribution, settled
from microgpt.strategies.registry import load_strategy, name_of, options_of

KNOWN_DATA = ("names", "embedded")  # everything else is a file, or a URL
LETTERS = 27  # the vocabulary of names; any will do to see whether a model can be
WRONG = (StrategyError, CompressionError, AggregationError, OptimizerError, ValueError)


@dataclass(frozen=True)
class Prepared:
    """What a case's settings name, made."""

    strategy: Strategy
    config: TrainingConfig
    conditions: Conditions


def prepare(settings: Mapping[str, Any], seed: int, vocab_size: int, folder: Path) -> Prepared:
    """Make what the settings name; files of the user's own are looked for in ``folder``.

    Raises one of ``WRONG``.
    """
    found = located(settings, folder)
    strategy = load_strategy(found["strategy"], found["strategy_options"])
    shape = {name: found[name] for name in ("n_layer", "n_embd", "n_head", "block_size")}
    adam = {name: found[name] for name in ("learning_rate", "beta1", "beta2", "eps")}
    distribution = make_distribution(
        found["replicas"], found["aggregate"], found["compress"], found["error_feedback"],
        found["inner_optimizer"], found["outer_optimizer"], found["shard_by"],
    )  # fmt: skip
    config = TrainingConfig(
        GPTConfig(vocab_size, **shape), AdamConfig(**adam), found["steps"], found["batch_size"],
        seed, found["validation_fraction"], name_of(strategy), options_of(strategy),
        settled(distribution, strategy),
    )  # fmt: skip
    check_parts(config)
    conditions = read_conditions(found["workers"], **{name: found[name] for name in CONDITIONS})
    return Prepared(strategy, config, with_policy(conditions, found["on_failure"]))


def located(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """With the whole paths of the user's own files."""
    found = dict(settings)
    for name in OWN_CODE:
        if ".py:" in found[name]:
            found[name] = str(folder / found[name])
    if found["data"] not in KNOWN_DATA and not is_url(found["data"]):
        found["data"] = str(folder / found["data"])
    return found


def check_all(cases: Sequence[Case], source: Source, folder: Path) -> None:
    """Raise ExperimentError for the first case that cannot be run."""
    for case in cases:
        _check(case, source, folder)


def _check(case: Case, source: Source, folder: Path) -> None:
    """First what each setting names, so that its own line can be told, then all together."""
    found = located(case.settings, folder)
    loads: dict[str, Callable[[], object]] = {
        "strategy": lambda: load_strategy(found["strategy"]),
        "strategy_options": lambda: load_strategy(found["strategy"], found["strategy_options"]),
        "compress": lambda: found["compress"] and load_compressor(found["compress"]),
        "aggregate": lambda: load_aggregation(found["aggregate"]),
    }
    for name in ("inner_optimizer", "outer_optimizer"):
        loads[name] = lambda name=name: found[name] and load_optimizer(found[name])  # type: ignore[misc]  # bound now
    for name, load in loads.items():
        try:
            load()
        except WRONG as error:
            raise source.error(case.where.get(name, case.path), str(error)) from error
    for name in CONDITIONS:
        try:
            read_conditions(found["workers"], **{name: found[name]})
        except ConditionError as error:
            message = str(error).removeprefix("--")
            raise source.error(_place(case, name, found), message) from error
    try:
        prepare(case.settings, 0, LETTERS, folder)
    except WRONG as error:
        raise source.error(case.path, f"case {case.name!r} cannot be: {error}") from error


def _place(case: Case, name: str, found: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Where the first text of a kind stands that cannot be."""
    path = case.where.get(name, case.path)
    for number, text in enumerate(found[name]):
        try:
            read_conditions(found["workers"], **{name: [text]})
        except ConditionError:
            return (*path, number)
    return path


def sources(cases: Sequence[Case], source: Source, folder: Path) -> dict[str, str]:
    """Digests of the user's own code and data, by the texts that name them.

    Those of ``names``, too, which without a network are the embedded ones. Raises ExperimentError.
    """
    found: dict[str, str] = {}
    for case in cases:
        for name in OWN_CODE:
            spec = case.settings[name]
            if ".py:" in spec and spec not in found:
                path = folder / (spec.partition(".py:")[0] + ".py")
                try:
                    found[spec] = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError as error:
                    raise ExperimentError(f"{path} cannot be read: {error.strerror}") from error
        data = case.settings["data"]
        if data not in (DEFAULTS["data"], *found):
            try:
                check_lasting(located(case.settings, folder)["data"])
                found[data] = load_dataset(located(case.settings, folder)["data"]).sha256
            except DatasetError as error:
                raise source.error(case.where["data"], f"data: {error}") from error
    return found
