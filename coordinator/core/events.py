"""What happens in a run, for whoever wants to know: one frozen class for each kind of event.

An event holds numbers and names, and no English but what somebody else has said (``reason``,
``text``). ``event_text.describe`` makes sentences of it; ``event_json`` is its only written form;
``docs/events.md`` describes every event and field. Nothing here decides anything.

Longer than 300 lines because it is one list: a few lines for each kind of event.

Fields with one meaning everywhere: ``worker`` and ``name`` are a worker's number in this epoch
(from 1) and its name; ``version`` is that of the weights: after so many updates; a shard is the
documents ``start`` to ``start + count`` of round ``round``, ``evaluation`` tells held-out ones;
``seconds`` are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, NamedTuple, TypeAlias, get_args

from coordinator.core.level import Level as Level

#: The version of the events' written form. A reader refuses a later one.
SCHEMA = 4


class Purpose(StrEnum):
    """Why a worker is given a shard."""

    WORK = "work"
    BACKUP = "backup"
    TRIAL = "trial"


class DropReason(StrEnum):
    """Why a worker's answer is not used."""

    LATE = "late"  # its round is over
    SURPLUS = "surplus"  # the shard has a result already; it is compared with that
    OTHER_EPOCH = "other epoch"  # it is for another epoch of the coordinator, or another run
    GIVEN_UP = "given up"  # a trial that is over, or was answered already
    MALFORMED = "malformed"
    NOT_ASKED = "not asked"


class Cause(StrEnum):
    """Why a peer is cut off."""

    PROTOCOL = "protocol"  # it has sent what cannot be understood, or what a worker does not send
    MALFORMED = "malformed"  # its answer has other shapes or no finite numbers
    NOT_ASKED = "not asked"  # it answers what it was not given
    WRONG = "wrong"  # it has computed something else than the others or this host
    FAULT = "fault"  # handling its message raised an error here
    KEY = "key"  # its key has been taken off the list


class RoundOutcome(StrEnum):
    """What has come of a round."""

    APPLIED = "applied"
    EVALUATED = "evaluated"
    DROPPED = "dropped"  # by the strategy
    GATHERED = "gathered"  # its results are in the update of a round that is closed next


class Verdict(StrEnum):
    """What has come of computing a shard on this host."""

    COMPUTED = "computed"
    IMPOSSIBLE = "impossible"  # a number is not finite
    UNAVAILABLE = "unavailable"  # it could not be tried


class ConditionChange(StrEnum):
    """What has become of a condition that the run is tried under."""

    KILLED = "killed"  # a worker was killed for it
    RETURNED = "returned"  # the worker is started again
    SET = "set"  # it holds from the start


class ControlVerb(StrEnum):
    """What somebody who looks on has had done to a run or to one of its workers."""

    KILL = "kill"
    FREEZE = "freeze"
    THAW = "thaw"
    SLOW = "slow"
    ADD = "add"
    REMOVE = "remove"
    CUT = "cut"  # its connection, which is not made again
    RESTORE = "restore"
    SAVE = "save"  # a checkpoint of the state as it is


class Outcome(StrEnum):
    """How a run ends."""

    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EventBase:
    """What all have in common. ``warning``: people should look at it.

    ``recorded_at`` is the lowest level that has it. ``bounded``: peers can cause any number of
    them, so that too many at once are counted instead (``LeftOut``).
    """

    warning: ClassVar[bool] = False
    recorded_at: ClassVar[Level] = Level.SUMMARY
    bounded: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class WorkerEvent(EventBase):
    """Something about one worker."""

    bounded: ClassVar[bool] = True
    worker: int
    name: str


@dataclass(frozen=True, slots=True)
class ShardEvent(EventBase):
    """Something about one shard."""

    round: int
    version: int
    start: int
    count: int
    evaluation: bool


@dataclass(frozen=True, slots=True)
class ShardOfWorker(ShardEvent):
    """Something about one shard and one worker."""

    recorded_at: ClassVar[Level] = Level.FULL
    worker: int
    name: str


# --- the run -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started(EventBase):
    """An epoch begins, after ``version`` of ``steps`` updates. Also the header: see ``schema``.

    ``next_document``: so many documents have been used up by then.
    """

    schema: int
    run: str
    epoch: str
    version: int
    steps: int
    level: Level
    next_document: int = 0


@dataclass(frozen=True, slots=True)
class Closing(EventBase):
    """Workers are sent home, and the last checkpoint is waited for."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Finished(EventBase):
    """The run, or this epoch of it, is over."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Condition(EventBase):
    """Whoever has started the run makes life hard for it, as the flag ``text`` says.

    ``name`` is the worker's that is killed or returns, and empty for what holds from the start.
    """

    change: ConditionChange
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ControlEvent(EventBase):
    """Something that somebody who looks on, ``by``, has asked for."""

    bounded: ClassVar[bool] = True
    by: str


@dataclass(frozen=True, slots=True)
class Controlled(ControlEvent):
    """What ``verb`` says was done, to the worker ``name``; empty for the run.

    ``factor``: how many times as long as usual the worker computes from now on.
    """

    verb: ControlVerb
    name: str
    factor: float


@dataclass(frozen=True, slots=True)
class ControlRefused(ControlEvent):
    """It was not done."""

    warning: ClassVar[bool] = True
    verb: str
    reason: str


@dataclass(frozen=True, slots=True)
class Paused(ControlEvent):
    """No work is given out from now on, after ``version`` updates; what is under way ends."""

    version: int


@dataclass(frozen=True, slots=True)
class Resumed(ControlEvent):
    """Work is given out again, after a pause of so many seconds."""

    version: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LearningRateChanged(ControlEvent):
    """The update of ``version`` is the first with this learning rate, which falls as the one
    ``before`` would have: linearly to zero over the run. Numbers as at the run's first step.
    """

    bounded: ClassVar[bool] = False  # a replay needs all of them
    version: int
    learning_rate: float
    before: float


@dataclass(frozen=True, slots=True)
class Fault(EventBase):
    """An error of this program, which ends the run with its state saved."""

    warning: ClassVar[bool] = True
    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class LeftOut(EventBase):
    """So many events of one kind, ``left_out``, are not told, as there were too many at once."""

    warning: ClassVar[bool] = True
    left_out: str
    number: int


# --- workers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DetailEnded(EventBase):
    """The record has come to ``limit`` bytes: from here on only ``level`` is recorded."""

    warning: ClassVar[bool] = True
    limit: int
    level: Level


@dataclass(frozen=True, slots=True)
class Waiting(EventBase):
    """Nobody is there to work on the step after ``version``."""

    bounded: ClassVar[bool] = True
    version: int


@dataclass(frozen=True, slots=True)
class Joined(WorkerEvent):
    """A worker is welcome.

    ``host``: the address that its connection comes from; empty over a socket of this machine.
    """

    engine: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class OtherPlatform(WorkerEvent):
    """A worker's C library or processor computes functions to other bits."""

    warning: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Status(WorkerEvent):
    """What a worker says it is doing while it is not ready."""

    text: str


@dataclass(frozen=True, slots=True)
class Ready(WorkerEvent):
    """A worker's engine is made: it can be given work."""


@dataclass(frozen=True, slots=True)
class Gone(WorkerEvent):
    """A worker is a member no more; so many shards that it had in flight go to others."""

    unfinished: int


@dataclass(frozen=True, slots=True)
class Left(Gone):
    """It has said goodbye."""


@dataclass(frozen=True, slots=True)
class Lost(Gone):
    """Its connection has closed."""

    warning: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Silent(Gone):
    """It has not been heard of for so long."""

    warning: ClassVar[bool] = True
    seconds: float


@dataclass(frozen=True, slots=True)
class Expelled(Gone):
    """It is cut off, and refused from now on. Number 0 and no name: it was no worker."""

    warning: ClassVar[bool] = True
    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class BackedUp(WorkerEvent):
    """A worker also computes a shard that another one is slow with.

    Told once in a while for each slow one; ``others`` counts those that were not told since.
    """

    slow: int
    slow_name: str
    others: int


@dataclass(frozen=True, slots=True)
class WorkerPulse(WorkerEvent):
    """How a worker that is ready does: told about twice a second, and when it goes.

    Totals since it joined: ``documents`` of its ``answers``, bytes to and from it, seconds
    ``computing`` in its engine, and ``waited``, those in which it had work, as seen from here.
    ``in_flight``: shards that it has now. ``round_trip``: the least of what its answers since the
    last pulse have taken beside computing; 0.0 if there was none. ``silent``: seconds since it was
    heard of. With many workers there are fewer of each: ``coordinator/core/pulses.py``.
    """

    recorded_at: ClassVar[Level] = Level.ROUNDS
    in_flight: int
    documents: int
    answers: int
    bytes_sent: int
    bytes_received: int
    computing: float
    waited: float
    round_trip: float
    silent: float


@dataclass(frozen=True, slots=True)
class Foreign(EventBase):
    """So many messages of somebody who is no worker were refused, the last for this reason."""

    warning: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    reason: str
    times: int


# --- rounds and steps ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoundOpened(EventBase):
    """The strategy wants documents ``first`` to ``first + documents`` to be computed.

    Each of the ``replicas`` does an equal part, if there are any: the sum of the gradients, or so
    many ``local_steps``, with this ``elastic``.
    """

    recorded_at: ClassVar[Level] = Level.ROUNDS
    round: int
    version: int
    evaluation: bool
    first: int
    documents: int
    replicas: tuple[int, ...] = ()
    local_steps: int = 0
    elastic: float = 0.0


@dataclass(frozen=True, slots=True)
class Assigned(ShardOfWorker):
    """A worker is given a shard."""

    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Answered(ShardOfWorker):
    """A worker's answer is taken in: ``seconds`` in its engine, ``waited`` since the assignment.

    ``trial``: it is only compared with the answer of a worker that is trusted.
    """

    trial: bool
    seconds: float
    waited: float


@dataclass(frozen=True, slots=True)
class Failed(ShardOfWorker):
    """A worker says that it cannot compute a shard."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dropped(ShardOfWorker):
    """A worker's answer is not used."""

    bounded: ClassVar[bool] = True
    reason: DropReason


@dataclass(frozen=True, slots=True)
class RoundClosed(EventBase):
    """A round is over: it was cut into so many ``shards``, ``results`` of which had one.

    ``cut``: how many documents each shard has; empty where that is known, of a single shard and of
    the parts of replicas. ``counted``: the shards that had a result, by their places from 0, in the
    order in which the strategy was given them; empty for all of them in their order. ``workers``:
    how many were ready.
    """

    recorded_at: ClassVar[Level] = Level.ROUNDS
    round: int
    version: int
    evaluation: bool
    shards: int
    results: int
    outcome: RoundOutcome
    cut: tuple[int, ...] = ()
    counted: tuple[int, ...] = ()
    workers: int = 0


@dataclass(frozen=True, slots=True)
class StepDone(EventBase):
    """An update has made ``version`` of the weights, and is evaluated if that was due."""

    recorded_at: ClassVar[Level] = Level.FULL
    version: int
    loss: float
    seconds: float
    workers: int


@dataclass(frozen=True, slots=True)
class Evaluated(EventBase):
    """The mean loss of ``version`` over the held-out documents."""

    version: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TensorNorms(EventBase):
    """Euclidean norms of what has made ``version``, for each of the ``tensors``; once a second.

    ``gradient``: of the vector along which the optimizer has gone, the mean gradient in most
    strategies; empty where there is none. ``update``: of the weights' way.
    """

    recorded_at: ClassVar[Level] = Level.ROUNDS
    version: int
    tensors: tuple[str, ...]
    gradient: tuple[float, ...]
    update: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StrategyNumbers(EventBase):
    """What the strategy says of itself after ``version``: about twice a second, if it does.

    ``numbers``: the newest by their names; ``histograms``: how often each value was met since the
    last such event. Which there are is the strategy's: ``docs/strategies.md``.
    """

    recorded_at: ClassVar[Level] = Level.ROUNDS
    version: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NumbersFailed(EventBase):
    """The strategy's own ``numbers`` raises an error or gives no numbers. Training goes on."""

    warning: ClassVar[bool] = True
    version: int
    reason: str


# --- doubts --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference(ShardEvent):
    """Two workers gave different answers for a shard. ``applied``: one of them is used already."""

    warning: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    names: tuple[str, str]
    applied: bool


@dataclass(frozen=True, slots=True)
class JudgeAsked(ShardEvent):
    """A shard is computed on this host, as workers cannot settle what it comes to."""

    warning: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    reason: str


@dataclass(frozen=True, slots=True)
class JudgeAnswered(ShardEvent):
    """What has come of that; ``reason`` says why nothing has."""

    bounded: ClassVar[bool] = True
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Unverified(EventBase):
    """Only one worker answers, so that nothing can be verified until another one does."""

    warning: ClassVar[bool] = True
    bounded: ClassVar[bool] = True


# --- checkpoints ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckpointSaved(EventBase):
    """So many checkpoints are on the disk, the oldest and the newest of these versions."""

    number: int
    first: int
    version: int


@dataclass(frozen=True, slots=True)
class CheckpointFailed(EventBase):
    """One could not be written. Further ones that fail are not told until one is saved."""

    warning: ClassVar[bool] = True
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class CheckpointRecovered(EventBase):
    """One is saved again, after so many had failed."""

    version: int
    failed: int


@dataclass(frozen=True, slots=True)
class CheckpointSkipped(EventBase):
    """So many in all were given up for newer ones, the last of them that of ``version``.

    ``resting``: to take little time from the training, and not because the disk is slow.
    """

    warning: ClassVar[bool] = True
    skipped: int
    version: int
    resting: bool


@dataclass(frozen=True, slots=True)
class CheckpointAwaited(EventBase):
    """Training is over, and the disk takes long to take the last checkpoint."""

    warning: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CheckpointGivenUp(EventBase):
    """The run was to stop, and the disk is too slow for the checkpoint of the last steps."""

    warning: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CheckpointsVanished(EventBase):
    """The folder had gone, and is made anew with the checkpoint of ``version``."""

    warning: ClassVar[bool] = True
    folder: str
    version: int


@dataclass(frozen=True, slots=True)
class DeletionFailed(EventBase):
    """Old checkpoints could not be deleted after that of ``version`` was saved."""

    warning: ClassVar[bool] = True
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeletionRecovered(EventBase):
    """Old checkpoints are deleted again."""

    version: int


Event: TypeAlias = (
    Started | Closing | Finished | Condition | Controlled | ControlRefused | Paused | Resumed
    | LearningRateChanged | Fault | LeftOut | DetailEnded | Waiting | Joined | OtherPlatform
    | Status | Ready | Left | Lost | Silent | Expelled | BackedUp | Foreign | RoundOpened | Assigned
    | Answered | Failed | Dropped | RoundClosed | StepDone | Evaluated | WorkerPulse | TensorNorms
    | StrategyNumbers | NumbersFailed | Difference | JudgeAsked
    | JudgeAnswered | Unverified | CheckpointSaved | CheckpointFailed | CheckpointRecovered
    | CheckpointSkipped | CheckpointAwaited | CheckpointGivenUp | CheckpointsVanished
    | DeletionFailed | DeletionRecovered
)  # fmt: skip
#: Every kind of event.
EVENTS: tuple[type[EventBase], ...] = get_args(Event)


class Recorded(NamedTuple):
    """An event, and when it happened: ``time`` in seconds since 1970, after ``step`` steps.

    The time is that of the coordinator's steady clock, set by the system's at its start: it never
    jumps. ``step`` is that after all that the same message or tick has caused.
    """

    time: float
    step: int
    event: Event
