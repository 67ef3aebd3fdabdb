"""Events for people: a sentence for each kind, made of its fields. Nobody reads these to decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.core.events import (
    Answered,
    Assigned,
    BackedUp,
    CheckpointAwaited,
    CheckpointFailed,
    CheckpointGivenUp,
    CheckpointRecovered,
    CheckpointSaved,
    CheckpointSkipped,
    CheckpointsVanished,
    Closing,
    Condition,
    ConditionChange,
    Controlled,
    ControlRefused,
    ControlVerb,
    DeletionFailed,
    DeletionRecovered,
    DetailEnded,
    Difference,
    Dropped,
    Evaluated,
    EventBase,
    Expelled,
    Failed,
    Fault,
    Finished,
    Foreign,
    Gone,
    Joined,
    JudgeAnswered,
    JudgeAsked,
    LearningRateChanged,
    Left,
    LeftOut,
    Lost,
    NumbersFailed,
    OtherPlatform,
    Paused,
    Purpose,
    Ready,
    Resumed,
    RoundClosed,
    RoundOpened,
    ShardEvent,
    Silent,
    Started,
    Status,
    StepDone,
    StrategyNumbers,
    TensorNorms,
    Unverified,
    Waiting,
    WorkerPulse,
)


def describe(event: EventBase) -> str:
    """One English sentence, without its full stop. Names and reasons in it are as they came."""
    return _SENTENCES[type(event)](event)


def place(version: int, start: int, count: int, *, evaluation: bool) -> str:
    """A shard of the work with the weights after ``version`` updates."""
    documents = f"documents {start + 1} to {start + count}"
    if evaluation:
        return f"held-out {documents} after step {version}"
    return f"{documents} of step {version + 1}"


def _shard(event: ShardEvent) -> str:
    return place(event.version, event.start, event.count, evaluation=event.evaluation)


def _round(event: RoundOpened | RoundClosed) -> str:
    if event.evaluation:
        return f"round {event.round} (held-out documents after step {event.version})"
    return f"round {event.round} (for step {event.version + 1})"


def _condition(event: Condition) -> str:
    how = {
        ConditionChange.SET: "under the condition",
        ConditionChange.KILLED: f"{event.name} is killed, as wanted by",
        ConditionChange.RETURNED: f"{event.name} is started again, as wanted by",
    }
    return f"{how[event.change]} {event.text}"


def _controlled(event: Controlled) -> str:
    what = {
        ControlVerb.SAVE: "a checkpoint is saved now",
        ControlVerb.KILL: f"{event.name} is killed",
        ControlVerb.FREEZE: f"{event.name} is frozen",
        ControlVerb.THAW: f"{event.name} goes on after having been frozen",
        ControlVerb.SLOW: f"{event.name} takes {event.factor:g} times as long",
        ControlVerb.ADD: f"{event.name} is added",
        ControlVerb.REMOVE: f"{event.name} is asked to leave",
        ControlVerb.CUT: f"the connection of {event.name} is cut",
        ControlVerb.RESTORE: f"{event.name} may connect again",
    }
    return f"{what[event.verb]}, as the {event.by} wants it"


def _rate_changed(event: LearningRateChanged) -> str:
    return (
        f"learning rate {event.learning_rate:g} instead of {event.before:g} from step "
        f"{event.version + 1} on, as the {event.by} wants it"
    )


def _gone(event: Gone, how: str) -> str:
    more = f"; its {event.unfinished} unfinished shard(s) go to others" if event.unfinished else ""
    return f"{event.name} {how}{more}"


def _expelled(event: Expelled) -> str:
    if not event.worker:
        return f"a stranger is cut off: {event.reason}"
    return _gone(event, f"is cut off: {event.reason}")


def _other_platform(event: OtherPlatform) -> str:
    return (
        f"{event.name} has another C library or processor, which computes exp, log or powers "
        "to other bits: from here on the run's last bits depend on who computes what"
    )


def _backed_up(event: BackedUp) -> str:
    others = f" (and {event.others} others in the meantime)" if event.others else ""
    return f"{event.name} also computes a shard that {event.slow_name} is slow with{others}"


def _foreign(event: Foreign) -> str:
    more = f" ({event.times} times since the last line)" if event.times > 1 else ""
    return f"ignored a message of somebody who is no worker: {event.reason}{more}"


def _difference(event: Difference) -> str:
    applied = ", and the step is applied already" if event.applied else ""
    return (
        f"{event.names[0]} and {event.names[1]} gave different answers for {_shard(event)}: "
        f"one of them is broken{applied}"
    )


def _judge_answered(event: JudgeAnswered) -> str:
    more = f" ({event.reason})" if event.reason else ""
    return f"computing {_shard(event)} on the coordinator's host: {event.verdict}{more}"


def _assigned(event: Assigned) -> str:
    how = {Purpose.WORK: "", Purpose.BACKUP: " as well", Purpose.TRIAL: " on trial"}[event.purpose]
    return f"{event.name} is given {_shard(event)}{how}"


def _round_closed(event: RoundClosed) -> str:
    return f"{_round(event)} is over: {event.results} of {event.shards} shards, {event.outcome}"


def _checkpoint_saved(event: CheckpointSaved) -> str:
    if event.number == 1:
        return f"checkpoint of step {event.version} saved"
    return f"{event.number} checkpoints of steps {event.first} to {event.version} saved"


def _checkpoint_failed(event: CheckpointFailed) -> str:
    return (
        f"checkpoint of step {event.version} not saved: {event.reason}; training goes on, and "
        "later checkpoints are tried without a further line until one is saved"
    )


def _checkpoint_skipped(event: CheckpointSkipped) -> str:
    many = "1 checkpoint" if event.skipped == 1 else f"{event.skipped} checkpoints"
    cause = "the disk is slower than training"
    if event.resting:
        cause = "so many checkpoints would slow the training down"
    return f"{cause}: {many} skipped so far for newer ones, the last that of step {event.version}"


def _pulse(event: WorkerPulse) -> str:
    return (
        f"{event.name} has computed {event.documents} documents so far, "
        f"and has {event.in_flight} shard(s) in flight"
    )


def _strategy_numbers(event: StrategyNumbers) -> str:
    numbers = [f"{name} {value:g}" for name, value in event.numbers.items()]
    numbers += [
        f"{name} " + " ".join(f"{label}:{count}" for label, count in counts.items())
        for name, counts in event.histograms.items()
    ]
    return f"the strategy at step {event.version}: {', '.join(numbers) or 'nothing'}"


_SENTENCES: dict[type[EventBase], Callable[[Any], str]] = {
    Started: lambda e: f"epoch {e.epoch} of run {e.run} begins after step {e.version} of {e.steps}",
    Closing: lambda e: e.reason,
    Finished: lambda e: e.reason,
    Condition: _condition,
    Controlled: _controlled,
    ControlRefused: lambda e: f"the {e.by} has asked for {e.verb}: {e.reason}",
    Paused: lambda e: f"paused after step {e.version}, as the {e.by} wants it",
    Resumed: lambda e: f"going on after a pause of {e.seconds:.1f} s, as the {e.by} wants it",
    LearningRateChanged: _rate_changed,
    Fault: lambda e: e.reason,
    LeftOut: lambda e: f"lines left out: {e.number} of kind {e.left_out}",
    DetailEnded: lambda e: (
        f"the record has come to {e.limit} bytes (--events-limit): "
        f"it goes on as with --events {e.level}"
    ),
    Waiting: lambda e: f"waiting for workers at step {e.version + 1}",
    Joined: lambda e: f"{e.name} has joined ({e.engine} engine)",
    OtherPlatform: _other_platform,
    Status: lambda e: f"{e.name}: {e.text}",
    Ready: lambda e: f"{e.name} is ready for work",
    Left: lambda e: _gone(e, "has left"),
    Lost: lambda e: _gone(e, "is gone: its connection has closed"),
    Silent: lambda e: _gone(e, f"is silent for {e.seconds:.1f} s"),
    Expelled: _expelled,
    BackedUp: _backed_up,
    WorkerPulse: _pulse,
    Foreign: _foreign,
    RoundOpened: lambda e: f"{_round(e)} is open: {e.documents} documents from {e.first + 1} on",
    Assigned: _assigned,
    Answered: lambda e: f"{e.name} has computed {_shard(e)} in {e.seconds:.6f} s",
    Failed: lambda e: f"{e.name} cannot compute {_shard(e)}: {e.reason}",
    Dropped: lambda e: f"the answer of {e.name} for {_shard(e)} is not used: {e.reason}",
    RoundClosed: _round_closed,
    StepDone: lambda e: f"step {e.version} is done, loss {e.loss:.4f}",
    Evaluated: lambda e: f"validation loss {e.loss:.4f} after step {e.version}",
    TensorNorms: lambda e: f"norms of {len(e.tensors)} tensors at step {e.version}",
    StrategyNumbers: _strategy_numbers,
    NumbersFailed: lambda e: f"{e.reason}; training goes on without these numbers",
    Difference: _difference,
    JudgeAsked: lambda e: f"the coordinator's host computes {_shard(e)} to see who is right",
    JudgeAnswered: _judge_answered,
    Unverified: lambda e: "only one worker answers: nothing is verified until another does",
    CheckpointSaved: _checkpoint_saved,
    CheckpointFailed: _checkpoint_failed,
    CheckpointRecovered: lambda e: (
        f"checkpoints are saved again: that of step {e.version} is, {e.failed} before are not"
    ),
    CheckpointSkipped: _checkpoint_skipped,
    CheckpointAwaited: lambda e: (
        "the disk is slow: waiting for the last checkpoint; Ctrl-C ends this"
    ),
    CheckpointGivenUp: lambda e: (
        "stopped; the disk is too slow for the checkpoint of the last steps"
    ),
    CheckpointsVanished: lambda e: (
        f"{e.folder} had vanished; it is made anew, with the checkpoint of step {e.version}"
    ),
    DeletionFailed: lambda e: f"no old checkpoints are deleted: {e.reason}",
    DeletionRecovered: lambda e: "old checkpoints are deleted again",
}
