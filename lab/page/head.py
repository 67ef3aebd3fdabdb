"""What a page says of a run before it has done anything: ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from coordinator.run.directory_owner import CONFIG
from lab.report.reading import read_config, read_head
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.parameters import num_params

VOTES = "sign"  # a compressor whose replicas may vote


class Head(NamedTuple):
    """``run``: the message's object. ``compressed``: results shrink on the wire.

    ``summed``: what shards give is added up, and not put together in another way.
    """

    run: dict[str, Any]
    parameters: int
    compressed: bool
    summed: bool


def read_page_head(path: Path, *, control: bool) -> Head:
    """The record of the run in ``path``. Raises RunError."""
    record = read_head(path)
    try:
        training = TrainingConfig.from_dict(read_config(path / CONFIG)["training"])
        parameters = num_params(parameter_shapes(training.model))
        given = training.distribution
        compressed = bool(given.compress)
        summed = given.aggregate == "mean" and not given.compress.startswith(VOTES)
    except (KeyError, TypeError, ValueError):
        parameters, compressed, summed = 0, False, False
    run = {
        "id": record.run,
        "name": record.name,
        "strategy": record.strategy,
        "promise": record.promise,
        "steps": record.total,
        "settings": dict(record.settings),
        "conditions": [*record.conditions],
        "control": control,
        "parameters": parameters,
    }
    return Head(run, parameters, compressed, summed)
