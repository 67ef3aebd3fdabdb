"""A coordinator in memory with workers that have an engine, and keep the replicas they work for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.core.inputs import Received
from coordinator.core.state import CoordinatorState, Policy
from microgpt.config import TrainingConfig
from microgpt.engine.answering import Answerer
from microgpt.model import parameter_shapes
from microgpt.protocol import messages
from microgpt.replicas.recipe import recipe_of
from microgpt.strategies.base import Strategy
from microgpt.training import TrainingState, initial_state
from tests.coordinator.core.test_coordinator_state import EPOCH, RUN, Play
from tests.toy_problem import CORPUS, Pull


class ReplicaPlay(Play):
    """The problem of ``tests.toy_problem``; who answers when is up to the test."""

    def __init__(
        self,
        config: TrainingConfig,
        strategy: Strategy,
        begin: TrainingState | None = None,
        **policy: Any,
    ) -> None:
        self.config, self.corpus = config, CORPUS
        begin = begin or initial_state(config, CORPUS)
        self.state = CoordinatorState(
            config, CORPUS, begin, Policy(**policy), run=RUN, epoch=EPOCH, strategy=strategy
        )
        self.begin()
        self._answerers: dict[bytes, Answerer] = {}
        self._read: dict[bytes, int] = {}
        self._weights: dict[bytes, Mapping[str, bytes]] = {}

    def replica(self, peer: bytes) -> int:
        """For which replica a worker has work."""
        task = self.task(peer)
        assert isinstance(task, messages.ReplicaTask)
        assert self.state.workers[peer].in_flight
        return task.replica

    def answers(self, peer: bytes, **changes: Any) -> Any:
        """A worker does what it has been sent, and answers."""
        if peer not in self._answerers:
            shapes, recipe = parameter_shapes(self.config.model), recipe_of(self.config)
            self._answerers[peer] = Answerer(Pull(), shapes, recipe)
        answer = None
        for message in self.sent[peer][self._read.get(peer, 0) :]:
            if isinstance(message, messages.Weights):
                self._weights[peer] = message.weights
            elif isinstance(message, messages.ReplicaState):
                self._answerers[peer].restore(message)
            elif isinstance(message, messages.Task):
                answer = self._answerers[peer].answer(self._weights[peer], message)
        self._read[peer] = len(self.sent[peer])
        assert answer is not None
        return self.do(Received(peer, answer))

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the strategy has told of each step."""
        return [record["strategy"] for record in self.done]
