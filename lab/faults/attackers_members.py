"""What members do to a run that mean it harm. What they answer must not be believed."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from lab.faults.attackers import Attack, Target
from lab.faults.attackers_zmq import Caller
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.protocol import messages
from microgpt.protocol.messages import Failure, ShardResult, Task
from worker.executor import Calculator
from worker.state import Configure, Job

STAY_SECONDS = 8.0  # of a gang; who is cut off comes again with the next one
GANG, LARGE_GANG = 3, 8
HEAR_SECONDS = 0.05
HUGE = 1.7e308
TINY_SECONDS = 1e-312
LOSS = 3.0

#: What a member says to a shard.
Lie: TypeAlias = "Callable[[random.Random, Member, Task], Iterable[messages.Message]]"


class Member:
    """Somebody who has joined, and what it makes of its work; see ``work``."""

    def __init__(self, rng: random.Random, target: Target) -> None:
        self._caller = Caller(target, b"m" + rng.randbytes(8))
        self._rng, self._target = rng, target
        self.weights: Mapping[str, bytes] = {}
        self.sizes: dict[str, int] = {}

    def join(self) -> bool:
        """Whether it has been let in."""
        if not self._caller.join(self._target.engine):
            return False
        model = GPTConfig(**self._caller.model)
        self.sizes = {
            name: 8 * rows * cols for name, (rows, cols) in parameter_shapes(model).items()
        }
        return True

    @property
    def model(self) -> Mapping[str, int]:
        """Of the run."""
        return self._caller.model

    def turn(self, lie: Lie) -> int:
        """Say that it lives, and what ``lie`` makes of its shards. Returns how many they were."""
        taken = 0
        self._caller.beat()
        while (message := self._caller.hear(HEAR_SECONDS)) is not None:
            if isinstance(message, messages.Weights):
                self.weights = message.weights
            elif isinstance(message, Task):
                taken += 1
                for word in lie(self._rng, self, message):
                    self._caller.say(word)
        return taken

    def answer(self, task: Task, number: float) -> ShardResult:
        """Of the right shape, with this in every place of the gradient."""
        packed = struct.pack("<d", number)
        gradient = {name: packed * (size // 8) for name, size in self.sizes.items()}
        losses = struct.pack("<d", LOSS) * task.count
        return ShardResult(
            task.run, task.epoch, task.step, task.start, task.count, 0.001, losses,
            gradient if task.training else {}, task.training, round=task.round,
        )  # fmt: skip

    def close(self) -> None:
        """Leave without a word."""
        self._caller.close()


def gang_of(lie: Lie, size: int = GANG) -> Attack:
    """The attack of some members that all lie so."""

    def attack(rng: random.Random, target: Target) -> Iterator[int]:
        with contextlib.ExitStack() as stack:
            gang = []
            for _ in range(size):
                member = Member(rng, target)
                stack.callback(member.close)
                if member.join():
                    gang.append(member)
            end = time.monotonic() + STAY_SECONDS
            while gang and time.monotonic() < end:
                for member in gang:
                    yield member.turn(lie)

    return attack


def _claims_failure(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    place = task.start + rng.randrange(task.count)
    yield Failure(
        task.run, task.epoch, task.step, place, "because", task.training, round=task.round
    )


def _says_nothing(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    return ()


def _overflows(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    # All of one sign, or sums could be finite; no two alike, or they would be each other's witness.
    yield member.answer(task, HUGE * rng.uniform(0.9, 1.0))


def _is_malformed(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    fair = member.answer(task, 0.0)
    name = rng.choice([*member.sizes])
    part = bytes(member.sizes[name])
    nan = struct.pack("<d", float("nan"))
    yield rng.choice((
        member.answer(task, float("nan")),
        member.answer(task, float("inf")),
        replace(fair, gradient={**fair.gradient, name: part[:-8]}, training=True),
        replace(fair, gradient={**fair.gradient, "more": part}, training=True),
        replace(fair, losses=nan * task.count),
        replace(fair, losses=b""),
        replace(fair, losses=fair.losses * 2),
        replace(fair, start=task.start + (1 << 40)),
        replace(fair, step=task.step + (1 << 40)),
        replace(fair, step=1 << 62, start=1 << 62, count=1 << 62),
        replace(fair, count=0, losses=b""),
    ))  # fmt: skip


def impossible_seconds(rng: random.Random, target: Target) -> Iterator[int]:
    """Members that compute well, and say that it took no time, or all of it."""
    # Not the fast engine: honest workers would wait for us, of low priority, to compile it.
    calculator = Calculator("scalar", lambda text: None)
    seconds = rng.choice((TINY_SECONDS, TINY_SECONDS, 0.0, HUGE))
    model: Mapping[str, int] = {}

    def lie(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
        nonlocal model
        if member.model != model:
            model = member.model
            calculator.configure(Configure(model))
        answer = calculator.compute(Job(task, member.weights))
        assert isinstance(answer, ShardResult)  # noqa: S101  # the model is fine
        took = seconds if seconds in (0.0, HUGE) else seconds * task.count
        yield replace(answer, seconds=took)

    yield from gang_of(lie)(rng, target)


claimed_failures = gang_of(_claims_failure, LARGE_GANG)  # two have to fail at the same shard
lazy = gang_of(_says_nothing)
huge_gradients = gang_of(_overflows)
malformed_answers = gang_of(_is_malformed)
