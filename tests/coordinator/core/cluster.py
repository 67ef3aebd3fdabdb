"""A coordinator's core with workers that keep replicas, all in memory: what is sent is done.

The engine is a stand-in of the simulator's: a pure function of weights and documents whose sums
depend on their order, as a gradient's do. Everything else is that of real workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypeVar

from coordinator.core.actions import Action, Finish, Judge, RecordStep, Save, Send
from coordinator.core.events import EventBase
from coordinator.core.inputs import Disconnected, Input, Judged, Received, Saved
from coordinator.core.sizes import Sizes, sizes_of
from coordinator.core.state import CoordinatorState, Policy
from lab.simulation.arithmetic import DocumentByDocument, stand_in
from microgpt.checkpoint.format import Checkpoint
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.distribution import Distribution
from microgpt.engine.answering import Answerer
from microgpt.engine.judge import do_again
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.protocol import messages
from microgpt.replicas.recipe import from_plain, recipe_of
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy
from microgpt.training import TrainingState, initial_state, to_checkpoint
from tests.processes import NAMES

RUN = "run"
NAMES_BYTES = 1_000  # of a message, beside its numbers
M = TypeVar("M")
E = TypeVar("E", bound=EventBase)
#: What makes another answer of an honest one.
Change = Callable[[Any], messages.Message]


def honest(answer: messages.Message) -> messages.Message:
    return answer


class Member:
    """A worker: does what it is sent in that order."""

    def __init__(self) -> None:
        self.todo: deque[messages.Message] = deque()
        self.answerer: Answerer | None = None
        self._weights: Mapping[str, bytes] = {}

    def next_answer(self) -> messages.Message | None:
        """What it says to the next task that wants an answer; None if there is none."""
        while self.todo:
            message = self.todo.popleft()
            if isinstance(message, messages.Welcome):
                shapes = parameter_shapes(GPTConfig(**message.model))
                engine: Any = DocumentByDocument(stand_in, 1 << 62)
                self.answerer = Answerer(engine, shapes, from_plain(message.recipe))
            assert self.answerer is not None
            if isinstance(message, messages.ReplicaState):
                self.answerer.restore(message)
            elif isinstance(message, messages.Weights):
                self._weights = message.weights
            elif isinstance(message, messages.Task):
                answer = self.answerer.answer(self._weights, message)
                if not (isinstance(message, messages.ReplicaTask) and message.redo):
                    return answer
        return None


class Cluster:
    """The core of a run from ``training`` on (from the beginning if None), without workers yet.

    ``sent``: all messages to each peer; ``answered``: how long their answers were, encoded.
    ``states``: the training's after each step done here.
    """

    epochs = count()

    def __init__(
        self,
        strategy: Strategy,
        distribution: Distribution,
        *,
        steps: int = 12,
        batch_size: int = 8,
        held_out: float = 0.0,
        training: TrainingState | None = None,
        **policy: Any,
    ) -> None:
        self.corpus = Corpus(NAMES, 42, held_out)
        model = GPTConfig(self.corpus.tokenizer.vocab_size, n_embd=2, n_head=1, block_size=2)
        self.config = TrainingConfig(
            model, steps=steps, batch_size=batch_size, validation_fraction=held_out,
            distribution=distribution,
        )  # fmt: skip
        self.strategy, self.policy = strategy, Policy(**policy)
        begin = training or initial_state(self.config, self.corpus)
        self.epoch = f"epoch {next(self.epochs)}"
        self.state = CoordinatorState(
            self.config, self.corpus, begin, self.policy,
            run=RUN, epoch=self.epoch, strategy=strategy,
        )  # fmt: skip
        self.now = 100.0
        self.members: dict[bytes, Member] = {}
        self.sent: dict[bytes, list[messages.Message]] = {}
        self.answered: list[int] = []
        self.told: list[EventBase] = []
        self.saved: list[TrainingState] = []
        self.states: list[TrainingState] = []
        self.questions: list[Judge] = []
        self.finish: Finish | None = None
        self._take(self.state.start(self.now))

    # --- what happens ----------------------------------------------------------------------------

    def do(self, event: Input, after: float = 0.001) -> None:
        self.now += after
        self._take(self.state.handle(event, self.now))
        if self.state.closing is None:
            for ledger in self.state.ledgers:
                ledger.audit()

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.sent.setdefault(action.peer, []).append(action.message)
                if action.peer in self.members:
                    self.members[action.peer].todo.append(action.message)
            elif isinstance(action, EventBase):
                self.told.append(action)
            elif isinstance(action, RecordStep):
                self.states.append(self.state.training)
            elif isinstance(action, Save):
                self.saved.append(action.state)
            elif isinstance(action, Judge):
                self.questions.append(action)
            else:
                self.finish = action

    def says(self, peer: bytes, message: messages.Message) -> None:
        self.answered.append(len(messages.encode(message)))
        self.do(Received(peer, message))

    def joins(self, *peers: bytes) -> None:
        for peer in peers:
            self.members[peer] = Member()
            self.do(Received(peer, messages.Hello("", "", peer.decode(), "stub", "")))
            self.do(Received(peer, messages.Heartbeat(RUN, self.epoch, ready=True)))

    def loses(self, *peers: bytes) -> None:
        for peer in peers:
            del self.members[peer]
            self.do(Disconnected(peer))

    def answers(self, peer: bytes, change: Change = honest) -> bool:
        """The worker answers its next task. Returns whether it had one."""
        answer = self.members[peer].next_answer()
        if answer is not None:
            self.says(peer, change(answer))
        return answer is not None

    def works(self) -> None:
        """Each worker answers one task."""
        busy = [self.answers(peer) for peer in [*self.members] if peer in self.members]
        assert any(busy), "nobody has anything to do"

    def runs_until(self, step: int) -> None:
        """Workers answer until so many steps are done."""
        while self.state.training.step < step:
            self.works()

    def ends(self) -> TrainingState:
        """Let the run come to its end. Gives the last state."""
        self.runs_until(self.config.steps)
        self.do(Saved(self.state.training.step))
        assert self.finish is not None
        assert self.finish.outcome == "done", self.finish
        return self.state.training

    def judges(self) -> None:
        """What the judge finds at the last question, in a process of its own."""
        question, member = self.questions[-1], Member()
        shapes = parameter_shapes(self.config.model)
        engine: Any = DocumentByDocument(stand_in, 1 << 62)
        member.answerer = Answerer(engine, shapes, recipe_of(self.config))
        do_again(member.answerer, question.before)
        self.do(Judged(member.answerer.answer(question.weights.weights, question.task)))

    # --- what is seen ----------------------------------------------------------------------------

    def got(self, peer: bytes, kind: type[M]) -> list[M]:
        return [message for message in self.sent.get(peer, []) if isinstance(message, kind)]

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.told if isinstance(event, kind)]

    def sizes(self) -> Sizes:
        return sizes_of(self.config, self.strategy, self.corpus.longest)

    def checkpoint(self) -> Checkpoint:
        """What would be saved now."""
        return to_checkpoint(self.config, self.state.resumable, self.corpus.tokenizer, {}, RUN)

    def quiet(self) -> list[TrainingState]:
        """The states of the same run in one process."""
        evaluates = self.policy.evaluates
        return [
            *serial.run(
                self.strategy, self.config, self.corpus, initial_state(self.config, self.corpus),
                DocumentByDocument(stand_in, self.config.model.block_size),
                evaluates=lambda step: evaluates(step, self.config.steps),
            )
        ]  # fmt: skip


def bytes_of(sent: list[messages.Message]) -> int:
    """How long messages are together."""
    return sum(len(messages.encode(message)) for message in sent)
