"""The documents that a model was trained on."""

from __future__ import annotations

import sys
from functools import cache

from lab.terminal import UserError
from microgpt.checkpoint.format import Checkpoint


def training_documents(loaded: Checkpoint, where: str | None) -> frozenset[str]:
    """The data set of the training, from ``where`` or where the training had it.

    Raises UserError if it is not to be had, or is other data.
    """
    expected = loaded.data.get("sha256")
    if not isinstance(expected, str):
        raise UserError("the checkpoint does not say what data the model was trained on")
    return _documents(where, str(loaded.data.get("name", "")), expected)


@cache  # for the next checkpoint of the same training
def _documents(where: str | None, named: str, expected: str) -> frozenset[str]:
    from microgpt.data.dataset import check_named, load_dataset
    from microgpt.data.documents import DatasetError

    try:
        if not where:
            check_named(named)
    except DatasetError as error:
        raise UserError(str(error)) from error
    try:
        dataset = load_dataset(where or named, report=lambda line: print(line, file=sys.stderr))
    except DatasetError as error:
        hint = "" if where else "; say with --data where the training's data is"
        raise UserError(f"{error}{hint}") from error
    except ImportError as error:
        raise UserError(f"finding the data set needs {error.name}: pip install {error.name}") from (
            error
        )
    if dataset.sha256 != expected:
        raise UserError(
            f"{dataset.name!r} is not what the model was trained on ({named!r}): its SHA-256 is "
            f"{dataset.sha256[:12]}..., not {expected[:12]}..."
        )
    return frozenset(dataset.documents)
