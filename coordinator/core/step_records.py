"""The line of metrics of each step: what is measured of the rounds that have led to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.core.rounds import OpenRound
from microgpt.config import TrainingConfig
from microgpt.strategies.base import Note
from microgpt.strategies.checks import as_floats
from microgpt.training import TrainingState, last_rate


class StepRecords:
    """Makes the lines, one after the other."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._record: dict[str, Any] = {}  # of the step that waits for its validation loss
        self._stepped = -math.inf  # when the last step was done

    def line(
        self,
        rounds: Sequence[OpenRound],
        after: TrainingState,
        workers: int,
        now: float,
        notes: Mapping[str, Note],
    ) -> Mapping[str, Any]:
        """The line of metrics of the step that the rounds have led to, or of its evaluation.

        ``notes``: what the strategy has told of the step. Its seconds begin with its first round,
        or with the step before where rounds overlap: those of all steps add up to no more than
        the run has taken.
        """
        round = rounds[-1]
        began = min(each.began for each in rounds)
        if not round.id.training and after.validation is not None:
            seconds, loss = max(0.0, now - began), after.validation.loss
            return {**self._record, "validation_loss": loss, "validation_seconds": seconds}
        seconds = max(0.0, now - max(began, self._stepped))
        self._stepped = now
        self._record = {
            "step": after.step,
            "loss": after.losses[-1],
            "lr": last_rate(self._config, after),
            "documents": sum(len(each.documents) for each in rounds),
            "tokens": sum(  # the first of a document is given
                len(each.documents.tokens) - len(each.documents) for each in rounds
            ),
            "seconds": seconds,
            "workers": workers,
            "shards": sum(len(each.ledger.all) for each in rounds),
        }
        if notes:
            self._record["strategy"] = {name: as_floats(note) for name, note in notes.items()}
        return self._record
