"""A run handed to a tracker of experiments: trackio, an extra, or wandb.

They have three functions in common: ``init``, ``log`` and ``finish``. No other is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lab.export.rows import Row
from microgpt.support.cli import UserError


class Tracker:
    """``library``: trackio or wandb; ``name``: of the run. All methods raise UserError."""

    def __init__(self, library: str, project: str, name: str, settings: Mapping[str, Any]) -> None:
        self._name, self._step = library, 0
        self._library: Any = self._call(importlib.import_module, library)
        self._call(self._library.init, project=project, name=name, config=dict(settings))

    def write(self, row: Row) -> None:
        """Log the numbers of a step."""
        self._step = row.step
        self._call(self._library.log, dict(row.values), step=row.step)

    def write_samples(self, step: int, documents: Sequence[str]) -> None:
        """Log what the model invents after a step, with the last step: none goes back."""
        self._step = max(self._step, step)
        text = {f"samples/step {step}": "\n".join(documents)}
        self._call(self._library.log, text, step=self._step)

    def flush(self) -> None:
        """They send by themselves."""

    def close(self) -> None:
        """Finish, which may wait until all is sent."""
        self._call(self._library.finish)

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception as error:  # a library of others, that talks to others: anything may come
            text = str(error) or type(error).__name__
            raise UserError(f"{self._name} has failed: {text}") from error
