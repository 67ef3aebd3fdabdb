"""What members do to a run that mean it harm. What they answer must not be believed."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from microgpt import messages
from microgpt.messages import Answer, Failure, Task
from microgpt.model import GPTConfig, parameter_shapes
from scripts._chaos.attackers import Target
from scripts._chaos.attackers_zmq import Caller
from worker.compute import Calculator
from worker.state import Job

STAY_SECONDS = 4.0  # of a member before it comes again under another name
HUGE = 1.7e308
TINY_SECONDS = 1e-312
LOSS = 3.0


class Member:
    """Somebody who has joined, and what it makes of its work; see ``work``."""

    def __init__(self, rng: random.Random, target: Target) -> None:
        self._caller = Caller(target, b"m" + rng.randbytes(8))
        self._target = target
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

    def work(self, lie: Callable[[Task], Iterable[messages.Message]]) -> int:
        """Take shards for a while and say what ``lie`` makes of them. Returns how many."""
        taken = 0
        end = time.monotonic() + STAY_SECONDS
        while time.monotonic() < end:
            self._caller.beat()
            message = self._caller.hear(0.2)
            if isinstance(message, messages.Weights):
                self.weights = message.weights
            elif isinstance(message, Task):
                taken += 1
                for word in lie(message):
                    self._caller.say(word)
            elif isinstance(message, messages.Refuse | messages.Stop):
                break
        return taken

    def answer(self, task: Task, number: float) -> Answer:
        """Of the right shape, with this in every place of the gradient."""
        packed = struct.pack("<d", number)
        gradient = {name: packed * (size // 8) for name, size in self.sizes.items()}
        losses = struct.pack("<d", LOSS) * task.count
        return Answer(
            task.run, task.life, task.step, task.start, task.count, 0.001, losses,
            gradient if task.training else {}, task.training,
        )  # fmt: skip

    def close(self) -> None:
        """Leave without a word."""
        self._caller.close()


Lie = Callable[[random.Random, Member, Task], Iterable[messages.Message]]


def member_of(lie: Lie) -> Callable[[random.Random, Target], int]:
    """The attack of a member that lies so."""

    def attack(rng: random.Random, target: Target) -> int:
        member = Member(rng, target)
        try:
            if not member.join():
                time.sleep(0.2)
                return 0
            return member.work(lambda task: lie(rng, member, task))
        finally:
            member.close()

    return attack


def _claims_failure(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    place = task.start + rng.randrange(task.count)
    yield Failure(task.run, task.life, task.step, place, "because", task.training)


def _says_nothing(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    return ()


def _overflows(rng: random.Random, member: Member, task: Task) -> Iterable[messages.Message]:
    yield member.answer(task, rng.choice((HUGE, -HUGE)))


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


def impossible_seconds(rng: random.Random, target: Target) -> int:
    """A member that computes well, and says that it took no time, or all of it."""
    calculator = Calculator(target.engine, lambda text: None)
    member = Member(rng, target)

    def lie(task: Task) -> Iterable[messages.Message]:
        answer = calculator.compute(Job(task, member.weights))
        assert isinstance(answer, Answer)  # noqa: S101  # the model is fine
        seconds = rng.choice((TINY_SECONDS, TINY_SECONDS * task.count, 0.0, 1e-320, HUGE))
        yield replace(answer, seconds=seconds)

    try:
        if not member.join():
            time.sleep(0.2)
            return 0
        calculator.configure(member.model)
        return member.work(lie)
    finally:
        member.close()


claimed_failures = member_of(_claims_failure)
lazy = member_of(_says_nothing)
huge_gradients = member_of(_overflows)
malformed_answers = member_of(_is_malformed)
