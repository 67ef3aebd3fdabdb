"""A run handed to a tracker of experiments: trackio, an extra, or wandb.

They have three functions in common: ``init``, ``log`` and ``finish``. No other is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from lab.export.rows import Row
from microgpt.support.cli import UserError

TRACKERS = ("trackio", "wandb")


class Tracker:
    """``library``: one of TRACKERS; ``name``: of the run. Raises UserError without the library."""

    def __init__(self, library: str, project: str, name: str, settings: Mapping[str, Any]) -> None:
        try:
            self._library: ModuleType = importlib.import_module(library)
        except ImportError as error:
            text = f"--{library} needs {library}: pip install {library} ({error})"
            raise UserError(text) from error
        self._step = 0
        self._library.init(project=project, name=name, config=dict(settings))

    def write(self, row: Row) -> None:
        """Log the numbers of a step."""
        self._step = row.step
        self._library.log(dict(row.values), step=row.step)

    def write_samples(self, step: int, documents: Sequence[str]) -> None:
        """Log what the model invents after a step, with the last step: none goes back."""
        self._step = max(self._step, step)
        self._library.log({f"samples/step {step}": "\n".join(documents)}, step=self._step)

    def flush(self) -> None:
        """They send by themselves."""

    def close(self) -> None:
        """Finish, which may wait until all is sent."""
        self._library.finish()
