"""An aggregator's core with a parent and workers that a test leads, all in memory.

The workers' engine is a stand-in of the simulator's: a pure function of weights and documents
whose sums depend on their order, as a gradient's do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from aggregator.state import Action, AggregatorState, Event
from coordinator.core import actions as downwards
from coordinator.core import inputs
from lab.simulation.arithmetic import DocumentByDocument, stand_in
from microgpt.data.packed import PackedDocuments
from microgpt.engine.answering import Answerer
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector, vector_from_map, vector_to_map
from microgpt.parameters import num_params
from microgpt.protocol import messages
from worker import state as upwards

RUN, EPOCH = "run", "epoch"
MODEL = GPTConfig(vocab_size=5, n_embd=2, n_head=1, block_size=4)
SHAPES = parameter_shapes(MODEL)
WELCOME = messages.Welcome(RUN, EPOCH, 1, 2.0, MODEL.to_dict())
M = TypeVar("M", bound=messages.Message)

#: Documents of different sums, so that their order shows in the last bits.
DOCUMENTS = [[1, 2 + place % 3, 3, 1 + place % 4] for place in range(16)]


def params(step: int = 0) -> Vector:
    """(num_params,) some weights."""
    return np.sin(np.arange(num_params(SHAPES)) + step)


def weights(step: int = 0, epoch: str = EPOCH) -> messages.Weights:
    return messages.Weights(RUN, epoch, step, vector_to_map(params(step), SHAPES))


def task(
    round: int = 0, step: int = 0, start: int = 0, count: int = 8, *,
    training: bool = True, epoch: str = EPOCH,
) -> messages.Task:  # fmt: skip
    packed = PackedDocuments.pack(DOCUMENTS[start : start + count]).to_bytes()
    return messages.Task(RUN, epoch, step, start, count, *packed, training, round=round)


def one_by_one(params: Vector, documents: Sequence[Sequence[int]]) -> tuple[list[float], Vector]:
    """Losses, and gradients added up as the batch's tree has it, written down once more."""
    each = [stand_in(params, [document]) for document in documents]
    level = [result.gradient for result in each]
    while len(level) > 1:
        level = [
            level[i] + level[i + 1] if i + 1 < len(level) else level[i]
            for i in range(0, len(level), 2)
        ]
    return [result.losses[0] for result in each], level[0]


class Play:
    """An aggregator. ``up``: what it has sent its parent; ``below``: what each worker has been
    sent; ``done``: all other actions.
    """

    def __init__(self) -> None:
        self.state = AggregatorState("anna", "life", "digest")
        self.now = 50.0
        self.up: list[messages.Message] = []
        self.below: dict[bytes, deque[messages.Message]] = {}
        self.done: list[Action] = []
        self._weights: dict[bytes, messages.Weights] = {}
        self._ahead: dict[bytes, deque[messages.TaskAhead]] = {}
        engine: Any = DocumentByDocument(stand_in, MODEL.block_size)
        self._answerer = Answerer(engine, SHAPES)
        self._take(self.state.start(self.now))

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, upwards.Send):
                self.up.append(action.message)
            elif isinstance(action, downwards.Send):
                self.below.setdefault(action.peer, deque()).append(action.message)
            else:
                self.done.append(action)

    def do(self, event: Event, after: float = 0.001) -> None:
        self.now += after
        self._take(self.state.handle(event, self.now))

    def parent(self, *said: messages.Message) -> None:
        """The parent says this."""
        for message in said:
            self.do(upwards.Received(message))

    def child(self, peer: bytes, *said: messages.Message) -> None:
        """A worker says this."""
        for message in said:
            self.do(inputs.Received(peer, message))

    def told(self, kind: type[M]) -> list[M]:
        """What the parent has been sent of this kind."""
        return [message for message in self.up if isinstance(message, kind)]

    def events(self, kind: type[Any]) -> list[Any]:
        return [action for action in self.done if isinstance(action, kind)]

    # --- workers ---------------------------------------------------------------------------------

    def join(self, *peers: bytes) -> None:
        """Workers come in and are ready."""
        for peer in peers:
            self.child(peer, messages.Hello("", "", peer.decode(), "tape", "digest"))
            (welcome,) = [m for m in self.below[peer] if isinstance(m, messages.Welcome)][-1:]
            self.below[peer].clear()
            self.child(peer, messages.Heartbeat(welcome.run, welcome.epoch, ready=True))

    def answers(self, peer: bytes) -> list[messages.Message]:
        """What a worker has to say to all that it has been sent since."""
        said: list[messages.Message] = []
        queue = self.below.get(peer, deque())
        ahead = self._ahead.setdefault(peer, deque())
        while queue:
            message = queue.popleft()
            if isinstance(message, messages.Weights):
                self._weights[peer] = message
                while ahead and ahead[0].step <= message.step:
                    told = ahead.popleft()
                    where = told.run, told.epoch, told.step, told.start, told.count
                    queue.appendleft(
                        messages.Task(*where, told.tokens, told.lengths, round=told.round)
                    )
            elif isinstance(message, messages.TaskAhead):
                ahead.append(message)
            elif isinstance(message, messages.Task):
                assert self._weights[peer].step == message.step
                said.append(self._answerer.answer(self._weights[peer].weights, message))
        return said

    def work(self, *peers: bytes) -> None:
        """Let workers do all that they have."""
        while any(self.below.get(peer) for peer in peers):
            for peer in peers:
                self.child(peer, *self.answers(peer))


def welcomed(*peers: bytes) -> Play:
    """An aggregator that its parent has taken in, with these workers."""
    play = Play()
    play.parent(WELCOME)
    play.join(*peers)
    return play


def vector(answer: messages.ShardResult) -> Vector:
    return vector_from_map(answer.gradient, SHAPES)
