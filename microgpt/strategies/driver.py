"""The open rounds of a strategy, for whoever runs it: what to compute now, and what came of it.

Pure. A step that is due for it ends with an evaluation, which is a round like any other: the
held-out documents with the weights that the step has made. The step counts as done after that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from microgpt.config import TrainingConfig
from microgpt.numerics.vectors import Vector
from microgpt.strategies.asking import Look, ask, called, look_closer
from microgpt.strategies.base import (
    LocalSteps,
    Losses,
    Note,
    Result,
    Round,
    Strategy,
    StrategyError,
    View,
    no_lap,
    no_note,
)
from microgpt.strategies.checks import check_replicas, check_update, note_of
from microgpt.strategies.foresight import following, foretold
from microgpt.strategies.opened import Closed as Closed
from microgpt.strategies.opened import OpenRound as OpenRound
from microgpt.strategies.replica_clocks import ReplicaClocks
from microgpt.training import TrainingState, Validation, validation_loss


def never(step: int) -> bool:
    """No step is followed by an evaluation."""
    return False


class RoundDriver:
    """Runs ``strategy`` from ``state`` on; ``state`` is always that of the last step done.

    ``held_out`` documents are evaluated after each step for which ``evaluates`` is true. ``lap``
    hears what has been done where the strategy makes an ``"update"``, and of the ``"rest"`` before.
    ``rates``: learning rates that hold from the update of a version on, where that is known before.
    """

    def __init__(
        self,
        strategy: Strategy,
        config: TrainingConfig,
        state: TrainingState,
        *,
        held_out: int = 0,
        evaluates: Callable[[int], bool] = never,
        lap: Callable[[str], None] = no_lap,
        rates: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        self._rates = rates
        self._wanted_rate: float | None = None
        self.strategy, self.config, self.state = strategy, config, state
        self.open: dict[int, OpenRound] = {}
        self._held_out, self._evaluates, self._lap = held_out, evaluates, lap
        self._next_document = state.next_document
        self._unevaluated: TrainingState | None = None  # a step that waits for its evaluation
        self._evaluating: tuple[int, ...] = ()  # the numbers of the rounds that have led to it
        self._gathered: dict[int, tuple[Round, Sequence[Result]]] = {}  # closed, and in no update
        self._numbers = 0
        self._clocks = ReplicaClocks(state.replicas, config.steps)
        self._following = following(strategy)
        self.one_at_a_time = self._following is not None  # it opens no round beside another one
        self._foreseen: OpenRound | None = None  # the round that comes next, as far as is known
        self._notes: dict[str, Note] = {}

    @property
    def complete(self) -> bool:
        """Whether all steps of the run are done."""
        return self.state.step >= self.config.steps

    def begin(self, workers: int, idle: int) -> list[OpenRound]:
        """The rounds to begin now. Raises StrategyError."""
        if self._unevaluated is not None:
            if any(isinstance(opened.round.task, Losses) for opened in self.open.values()):
                return []
            after = self._unevaluated
            return [self._add(Round(after.step, 0, self._held_out, Losses()), after.params)]
        if self.complete or self._gathered:
            return []
        view = self._view(workers, idle)
        rounds = ask(self.strategy, "open", lambda: list(self.strategy.open(view)))
        if not rounds:
            if not self.open:
                raise StrategyError(f"{self._name} opens no round although none is open")
            return []
        for round in rounds:
            if not isinstance(round, Round) or round.version != self.state.step:
                raise StrategyError(f"{self._name}: open gives {round!r}, no round of now")
        check_replicas(self._name, (opened.round for opened in self.open.values()), rounds)
        opened = [self._add(round, self.state.params) for round in rounds]
        ends = [round.first + round.count for round in rounds]
        self._next_document = max(self._next_document, *ends)
        return opened

    def foresee(self) -> OpenRound | None:
        """The round that ``begin`` will give once the open one is applied; None if none is known.

        With its number, and the weights of now in the place of its own. If ``begin`` gives another
        round after all, that has another number. Raises StrategyError.
        """
        follows = self._following
        if follows is None or len(self.open) != 1 or self._unevaluated is not None:
            return None
        (opened,) = self.open.values()
        round, after = opened.round, opened.round.version + 1
        due = self._held_out > 0 and self._evaluates(after)
        if isinstance(round.task, Losses) or after >= self.config.steps or due:
            return None
        told = foretold(self.strategy, follows, round)
        if told is not None:
            self._foreseen = OpenRound(self._numbers, told, opened.params)
            self._numbers += 1
        return self._foreseen

    @property
    def undone(self) -> Collection[int]:
        """Rounds that ``state`` knows nothing of: open, gathered, or of a step to be evaluated."""
        evaluating = self._evaluating if self._unevaluated is not None else ()
        return [*self.open, *self._gathered, *evaluating]

    def change_rate(self, rate: float) -> None:
        """From the next update on the learning rate is another one: see ``base_rate``."""
        self._wanted_rate = rate

    @property
    def works_locally(self) -> bool:
        """Whether replicas take local steps, by the rounds that would be opened if none were open.

        Raises StrategyError.
        """
        view = replace(self._view(1, 1), open=())
        rounds = ask(self.strategy, "open", lambda: list(self.strategy.open(view)))
        return any(isinstance(round.task, LocalSteps) for round in rounds)

    @property
    def _upcoming(self) -> TrainingState:
        """The state, with the learning rate of the next update."""
        rate = self._rates.get(self.state.step, self._wanted_rate)
        if rate is None or rate == self.state.learning_rate:
            return self.state
        return replace(self.state, learning_rate=rate)

    def take_notes(self) -> dict[str, Note]:
        """What the strategy has told of its last update; told once."""
        notes, self._notes = self._notes, {}
        return notes

    def waits(self, number: int) -> bool:
        """Whether a round cannot be closed yet, as the step before is still being evaluated."""
        task = self.open[number].round.task
        return self._unevaluated is not None and not isinstance(task, Losses)

    @property
    def early(self) -> bool:
        """Whether the strategy may find a round's results enough before all of them are there."""
        return bool(getattr(self.strategy, "early", False))

    @property
    def gathers(self) -> tuple[int, float] | None:
        """Quorum and grace of a strategy that makes one update of several rounds, or None."""
        grace = getattr(self.strategy, "grace", None)
        return None if grace is None else (int(getattr(self.strategy, "quorum", 1)), float(grace))

    @property
    def gathering(self) -> bool:
        """Whether rounds have been closed whose update is to come with that of another one."""
        return bool(self._gathered)

    def enough(self, number: int, results: Sequence[Result]) -> bool:
        """Whether a round that does not wait may be closed with these results, in order."""
        round = self.open[number].round
        if isinstance(round.task, Losses):
            return sum(result.shard.count for result in results) == round.count
        return bool(ask(self.strategy, "enough", lambda: self.strategy.enough(round, results)))

    def close(
        self,
        number: int,
        results: Sequence[Result],
        workers: int = 1,
        *,
        more: bool = False,
        look: Look | None = None,
    ) -> Closed:
        """Take the results of a round, in the order of shards.

        With ``more``, another round is closed next, and one update is made of the results of both.
        ``look``: takes in what is seen of the update.
        Raises ArithmeticError if a number is not finite after it (the state stays as it was, and
        the round open), StrategyError if the strategy gives no state.
        """
        round = self.open[number].round
        after = None if more else self._after(number, results, workers, look)
        self._clocks.take_back(self.open.pop(number), results)
        if isinstance(round.task, Losses):
            assert after is not None  # noqa: S101  # see _after
            self.state, self._unevaluated = after, None
            return Closed(after)
        numbers = (*self._gathered, number)
        self._gathered = {**self._gathered, number: (round, results)} if more else {}
        if after is None:
            self.state = replace(self.state, next_document=self._consumed(round))
            return Closed(gathered=more)
        if self._held_out and self._evaluates(after.step):
            self._unevaluated, self._evaluating = after, numbers
            return Closed(to_evaluate=after)
        self.state = after
        return Closed(after)

    def overflows(self, number: int, results: Sequence[Result], workers: int = 1) -> bool:
        """Whether ``close`` would raise ArithmeticError; nothing is changed."""
        try:
            self._after(number, results, workers)
        except ArithmeticError:
            return True
        return False

    def _after(
        self, number: int, results: Sequence[Result], workers: int, look: Look | None = None
    ) -> TrainingState | None:
        """The state that the results of a round lead to, or None if they are dropped."""
        round, strategy = self.open[number].round, self.strategy
        if isinstance(round.task, Losses):
            return self._evaluated(results)
        self._notes = {}
        view = self._view(workers, 0, self.open[number].params, self._take_note)
        if self._gathered or look:
            along = look.take if look else view.along
            view = replace(view, gathered=tuple(self._gathered.values()), along=along)
        with np.errstate(over="ignore", invalid="ignore"):
            self._lap("rest")
            after = ask(strategy, "update", lambda: strategy.update(view, round, results))
            self._lap("update")
            if after is None:
                return None
            if isinstance(after, TrainingState):
                rate, used = view.state.learning_rate, self._consumed(round)
                if (after.learning_rate, after.next_document) != (rate, used):
                    after = replace(after, learning_rate=rate, next_document=used)
            check_update(self._name, self.state, after)
        if look is not None:
            with np.errstate(all="ignore"):
                look_closer(look, strategy, view, round, results)
        return after

    def _take_note(self, name: str, value: Note) -> None:
        name, value = note_of(name, value)
        self._notes[name] = value

    def _evaluated(self, results: Sequence[Result]) -> TrainingState:
        after = self._unevaluated
        if after is None:
            raise StrategyError("an evaluation that nobody has asked for")
        losses = [loss for result in results for loss in result.losses.tolist()]
        loss = validation_loss(losses)
        if not np.isfinite(loss):
            raise ArithmeticError(f"step {after.step} makes the validation loss infinite")
        return replace(after, validation=Validation(after.step, loss))

    def _consumed(self, round: Round) -> int:
        """How many documents are used up once this round is closed."""
        return self.state.next_document + round.count

    def _add(self, round: Round, params: Vector) -> OpenRound:
        foreseen, self._foreseen = self._foreseen, None
        number = self._numbers
        if foreseen is not None and foreseen.round == round:
            number = foreseen.number
        else:
            self._numbers += 1
        opened = OpenRound(number, round, params, self._clocks.assign(round))
        self.open[opened.number] = opened
        return opened

    def _view(
        self,
        workers: int,
        idle: int,
        sent: Vector | None = None,
        note: Callable[[str, Note], None] = no_note,
    ) -> View:
        rounds = tuple([opened.round for opened in self.open.values()])
        where = self.config, self._upcoming, rounds, self._next_document
        return View(*where, workers, idle, sent, self._lap, note)

    @property
    def _name(self) -> str:
        return called(self.strategy)
