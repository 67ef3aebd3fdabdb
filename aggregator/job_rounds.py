"""The work that an aggregator is given, as a round for the workers below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coordinator.core.action_buffer import printable
from coordinator.core.actions import Finish
from coordinator.core.sharding import assume_seconds
from coordinator.core.sizes import LARGEST
from microgpt.config import TrainingConfig
from microgpt.data.packed import PackedDocuments
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import vector_from_map
from microgpt.parameters import Shapes
from microgpt.protocol import messages
from microgpt.strategies.base import Gradient, Losses, Round
from microgpt.strategies.opened import OpenRound

NO_WEIGHTS = np.zeros(0)


@dataclass(frozen=True)
class JobRound(Round):
    """A round whose ``documents`` came with its task: the parent's shard, counted from 0."""

    documents: PackedDocuments | None = None


class JobRounds:
    """Makes rounds of the parent's tasks, for a model with these fields of ``GPTConfig``.

    Raises ValueError if there is no such model. ``documents`` are those of the rounds, for
    ``coordinator.core.rounds``.
    """

    def __init__(self, model: Mapping[str, int]) -> None:
        self._config = TrainingConfig(GPTConfig(**model))
        self.shapes: Shapes = parameter_shapes(self._config.model)
        self.largest = LARGEST  # what comes in a message fits into one again

    def open(
        self,
        number: int,
        task: messages.Task,
        weights: Mapping[str, bytes] | None,
    ) -> OpenRound:
        """Round ``number``: the task, with these weights or with none that exist yet.

        Raises ValueError if it is malformed.
        """
        documents = PackedDocuments.from_bytes(task.tokens, task.lengths, task.count)
        kind = Gradient() if task.training else Losses()
        round = JobRound(task.step, task.start, task.count, kind, documents=documents)
        params = NO_WEIGHTS if weights is None else vector_from_map(weights, self.shapes)
        return OpenRound(number, round, params)

    def of(self, round: Round) -> PackedDocuments:
        """The documents of a round that ``open`` has made."""
        assert isinstance(round, JobRound) and round.documents is not None  # noqa: S101, PT018
        return round.documents

    def assumed_seconds(self, documents: PackedDocuments) -> float:
        """What one of these may take, as long as nothing has been measured."""
        return assume_seconds(self._config, documents)

    def describe(self, round: Round, failure: messages.Failure) -> str:
        """A failure at a document of a round, for people."""
        place = round.first + failure.document + 1
        return f"document {place} after step {round.version}: {printable(failure.reason, 200)}"


class JobEnding:
    """Whether the job under way can be done: ``closing`` is None until it is given up."""

    def __init__(self) -> None:
        self.closing: Finish | None = None

    def begin(self) -> None:
        """A new job."""
        self.closing = None

    def close(self, outcome: str, reason: str) -> None:
        """The workers cannot do it, for this reason."""
        self.closing = self.closing or Finish(outcome, reason)
