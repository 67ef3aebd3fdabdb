"""The seam between training and how it is distributed: what a strategy is asked, and may know.

A strategy opens *rounds* (work on some documents with the weights of one version), says when a
round has enough results, and turns the results into the next state. The serial runner, the
notebook, the simulator and the coordinator all drive the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, TypeAlias

from microgpt.config import TrainingConfig
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard, sum_of_shards
from microgpt.strategies.promises import Promise as Promise
from microgpt.training import TrainingState

#: What a strategy tells of an update: a number, or several. What is typed as an int is counted.
Note: TypeAlias = float | tuple[float, ...]


class StrategyError(Exception):
    """A strategy cannot be used or does not keep to the interface; the message is one sentence."""


@dataclass(frozen=True)
class Gradient:
    """Work: the losses of the documents, and the sum of their gradients."""


@dataclass(frozen=True)
class LocalSteps:
    """Work: each replica takes ``steps`` steps of the inner optimizer, one for each part of its
    documents, and answers how far the global weights are to come: see
    ``microgpt.replicas.work``, and for ``elastic`` as well.

    Raises ValueError for numbers that cannot be.
    """

    steps: int
    elastic: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0.0 <= self.elastic <= 1.0:
            raise ValueError("local steps: at least 1, and elastic within 0 and 1")


@dataclass(frozen=True)
class Losses:
    """Work: the losses of held-out documents, forward only."""


Task: TypeAlias = Gradient | LocalSteps | Losses


@dataclass(frozen=True)
class Round:
    """Work on ``count`` documents from place ``first`` of the endless sequence of documents.

    It is done with the weights after ``version`` updates. ``shard_size`` is a power of two, or None
    where whoever hands out the work may choose; it has no influence on sums. With ``replicas`` (in
    ascending order) each of these does an equal part of the documents; ``LocalSteps`` need some.
    Raises ValueError for numbers that cannot be.
    """

    version: int
    first: int
    count: int
    task: Task = Gradient()
    shard_size: int | None = None
    replicas: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.version < 0 or self.first < 0 or self.count < 1:
            raise ValueError(f"a round of {self.count} documents from {self.first} cannot be")
        size = self.shard_size
        if size is not None and (size < 1 or size & (size - 1)):
            raise ValueError(f"shard_size must be a power of two, not {size}")
        if isinstance(self.task, LocalSteps) and not self.replicas:
            raise ValueError("local steps are the work of replicas: name them")
        if self.replicas:
            self._check_replicas()

    def _check_replicas(self) -> None:
        number = len(self.replicas)
        if isinstance(self.task, Losses) or self.shard_size is not None:
            raise ValueError("replicas compute gradients or local steps, and in parts of their own")
        if list(self.replicas) != sorted(set(self.replicas)) or self.replicas[0] < 0:
            raise ValueError("replicas are numbers from 0, in ascending order")
        each = self.task.steps if isinstance(self.task, LocalSteps) else 1
        if self.count < number * each:
            raise ValueError(
                f"{self.count} documents are too few for {number} replicas with {each} steps each"
            )

    def parts(self) -> list[Shard]:
        """The documents of each of the replicas, in their order."""
        number = len(self.replicas)
        starts = [place * self.count // number for place in range(number + 1)]
        return [Shard(a, b - a) for a, b in pairwise(starts)]

    def replica_of(self, shard: Shard) -> int | None:
        """Whose part a shard is; None in a round without replicas."""
        return self.replicas[self.parts().index(shard)] if self.replicas else None


@dataclass(frozen=True)
class Result:
    """What was computed for one shard of a round; ``shard`` counts places within the round.

    ``losses``: (shard.count,) float64, mean loss in nats of each document. ``vector``:
    (num_params,) float64, the tree sum of the documents' gradients, or what ``LocalSteps`` have
    led to; empty for ``Losses``. ``replica``: who has done it, in a round with replicas, and
    ``tokens``: how many predictions that were, 0 in one without.
    """

    shard: Shard
    losses: Vector
    vector: Vector
    replica: int | None = None
    tokens: int = 0


def sum_of_results(results: Sequence[Result]) -> Vector:
    """(num_params,) the sum of the documents' gradients, in the order of the batch's tree.

    The results are in the order of shards; some may be missing. Raises ValueError for none.
    """
    return sum_of_shards([(result.shard, result.vector) for result in results])


def no_lap(phase: str) -> None:
    """Nobody measures."""


def no_note(name: str, value: Note) -> None:
    """Nobody wants to know."""


def no_vector(vector: Vector) -> None:
    """Nobody looks on."""


@dataclass(frozen=True)
class View:
    """What a strategy may know when it is asked.

    ``open`` are its rounds that have not been closed, oldest first. ``next_document`` is the place
    after all documents that any round has been opened for. ``workers`` are those that can work,
    ``idle`` the ones among them that have nothing to do. ``sent``, in ``update``: (num_params,)
    the weights that the round was computed with. Who measures where time goes hears by ``lap``
    that a part of an update is done (``"tree sum"``); ``note`` takes numbers for people, such as
    how stale a gradient was, by a name of one word: of an int (or a tuple of some) people see how
    often each value was met, of a float the newest. ``along`` takes the vector along which the
    optimizer goes, for who looks at its norm. ``gathered``, in ``update``: the rounds that
    are merged with this one, with their results, in the order in which they were closed.
    """

    config: TrainingConfig
    state: TrainingState
    open: tuple[Round, ...]
    next_document: int
    workers: int
    idle: int
    sent: Vector | None = field(default=None, repr=False, compare=False)
    lap: Callable[[str], None] = field(default=no_lap, repr=False, compare=False)
    note: Callable[[str, Note], None] = field(default=no_note, repr=False, compare=False)
    gathered: tuple[tuple[Round, Sequence[Result]], ...] = field(
        default=(), repr=False, compare=False
    )
    along: Callable[[Vector], None] = field(default=no_vector, repr=False, compare=False)

    @property
    def replicas(self) -> int:
        """How many replicas there are, where the strategy needs some."""
        return self.config.num_replicas


class Strategy(Protocol):
    """How results become updates. All methods are pure: the answer depends on the arguments alone.

    A strategy is a frozen dataclass; its fields are its options (``--strategy-option KEY=VALUE``),
    of type int, float, bool or str, each with a default.

    ``enough`` is asked once all documents of a round are answered; of a strategy with the class
    attribute ``early = True``, after every result. What comes for a closed round is dropped.

    Results are in the order of their shards; with the class attribute ``by_arrival = True``, in the
    order in which they have come.

    A strategy that opens one round at a time, and knows the next one before this one's results, may
    say so by a method ``following(round) -> Round | None``, beside ``open`` in the same class: the
    round that ``open`` will give once an update has been made of ``round``. Its documents go out to
    workers before its weights exist. Should ``open`` give another one, some work is done in vain.

    A strategy with the attributes ``quorum`` and ``grace`` makes one update of several rounds: of
    all that are answered ``grace`` seconds after ``quorum`` of them were, of which one has begun
    after the update before; or at once when none is missing. See ``View.gathered``.

    A strategy with a method ``numbers(view, round, results)`` is asked now and then, right after
    an update and with the same arguments, for a mapping of names of one word to numbers, which
    people see: what costs something to find, such as how far replicas are apart.
    """

    @property
    def promise(self) -> Promise:
        """What holds for the bits of a run."""
        ...

    def open(self, view: View) -> Sequence[Round]:
        """Rounds to begin now; may be none as long as some are open."""
        ...

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """Whether the round may be closed with these results."""
        ...

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The state after an update with these results, or None to drop them."""
        ...
