"""Where a worker computes: in the caller's thread what is soon done, all else in the background."""

from __future__ import annotations

import queue
import time
from contextlib import closing
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from lab.launch.levers import SharedLevers
from microgpt.data.packed import PackedDocuments
from microgpt.engine import answering
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import num_params, split_bytes
from microgpt.protocol.messages import ShardResult, Task
from microgpt.support.step_clock import NoClock
from worker.executor import Executor
from worker.levers import NO_LEVERS, Levers, NoLevers
from worker.state import Compute, Computed, Configure, Configured, Event, Job, Prepare

MODEL = GPTConfig(3, n_embd=2, n_head=1, block_size=2)
SHAPES = parameter_shapes(MODEL)
WEIGHTS = split_bytes(bytes(8 * num_params(SHAPES)), SHAPES)
NUMBERS = count()


def work(documents: int = 1, training: bool = True) -> Compute:
    packed = PackedDocuments.pack([[2, 0, 2]] * documents)
    place = "run", "epoch", 0, 0, documents
    task = Task(*place, *packed.to_bytes(), training, round=next(NUMBERS))
    return Compute(Job(task, WEIGHTS))


class Listening(NoClock):
    """A clock that remembers what it has been told."""

    def __init__(self) -> None:
        self.heard: list[str | int] = []

    def lap(self, phase: str) -> None:
        self.heard.append(phase)

    def enter(self, step: int) -> None:
        self.heard.append(step)


class Background:
    """An executor with its engine made, and what it has told from the background."""

    def __init__(self, at_once: float, levers: NoLevers = NO_LEVERS) -> None:
        self.events: queue.SimpleQueue[Event | str] = queue.SimpleQueue()
        self.clock = Listening()
        heard = self.events.put
        self.executor = Executor("scalar", heard, heard, at_once, self.clock, levers=levers)
        assert self.executor.run(Configure(MODEL.to_dict())) is None
        assert isinstance(self.told(), Configured)

    def told(self) -> Event | str:
        """The next event that has something to say, which has been taken in."""
        while True:
            event = self.events.get(timeout=60)
            if isinstance(event, (str, Configured, Computed)):
                if not isinstance(event, str):
                    self.executor.taken_in(event)
                return event


def test_the_first_shard_is_computed_in_the_background_and_the_next_at_once() -> None:
    background = Background(at_once=1e9)
    first, second = work(), work()
    assert background.executor.run(first) is None
    told = background.told()
    assert isinstance(told, Computed)
    assert told.job == first.job
    done = background.executor.run(second)
    assert isinstance(done, Computed)
    assert done.job == second.job
    assert isinstance(done.answer, ShardResult)
    assert done.answer.round == second.job.task.round
    assert background.events.empty()


def test_the_clock_hears_of_what_is_done_in_the_callers_thread() -> None:
    background = Background(at_once=1e9)
    background.clock.heard.clear()
    background.executor.run(work())
    assert background.executor.busy
    background.told()
    assert not background.executor.busy
    assert background.clock.heard == ["rest", 1]
    background.executor.run(work())
    assert background.clock.heard[2:] == ["rest", 1, "decode", "engine", "encode"]
    background.executor.run(work(training=False))
    background.told()
    background.executor.run(work(training=False))
    assert background.clock.heard[-5:] == ["rest", 1, "decode", "engine", "encode"]


def test_a_lever_slows_it_down_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SharedLevers("worker-1")) as levers:
        background = Background(1e9, Levers(levers.descriptor))
        slept: list[float] = []
        clock = [100.0]

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock[0] += seconds
            if len(slept) == 2:
                levers.set_slowness(1.0)

        def perf_counter() -> float:
            clock[0] += 0.25
            return clock[0]

        background.executor.run(work())
        background.told()
        own = SimpleNamespace(sleep=sleep, perf_counter=perf_counter, process_time=perf_counter)
        monkeypatch.setattr("worker.executor.time", own)
        assert background.executor.run(work()) is not None
        assert slept == []
        levers.set_slowness(4.0)
        assert background.executor.run(work()) is not None
        assert slept == [0.05, 0.05], "it stops to be slow at once"


def test_a_slow_worker_says_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SharedLevers("worker-1")) as levers:
        background = Background(1e9, Levers(levers.descriptor))
        background.executor.run(work())
        background.told()
        levers.set_slowness(5.0)
        began = time.perf_counter()
        done = background.executor.run(work(documents=8))
        took = time.perf_counter() - began
        assert isinstance(done, Computed)
        assert isinstance(done.answer, ShardResult)
        assert done.answer.seconds <= took <= 1.5 * done.answer.seconds + 0.05


def test_a_slow_worker_is_no_slower_for_others_at_its_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(SharedLevers("worker-1")) as levers:
        background = Background(1e9, Levers(levers.descriptor))
        background.executor.run(work())
        background.told()
        levers.set_slowness(100.0)
        now, used = [0.0], iter((1.0, 1.25))  # of the second that passes, a quarter is its own

        def perf_counter() -> float:
            now[0] += 1.0
            return now[0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        own = SimpleNamespace(
            sleep=sleep, perf_counter=perf_counter, process_time=lambda: next(used)
        )
        monkeypatch.setattr("worker.executor.time", own)
        done = background.executor.run(work())
        assert isinstance(done, Computed)
        assert isinstance(done.answer, ShardResult)
        assert done.answer.seconds == 25.0
        assert 25.0 <= now[0] - 1.0 < 27.0


def test_evaluations_have_a_pace_of_their_own() -> None:
    background = Background(at_once=1e9)
    background.executor.run(work())
    background.told()
    assert background.executor.run(work(training=False)) is None
    background.told()
    assert background.executor.run(work(training=False)) is not None


def test_what_takes_longer_is_computed_in_the_background() -> None:
    background = Background(at_once=0.0)
    for _ in range(3):
        assert background.executor.run(work()) is None
        assert isinstance(background.told(), Computed)


def test_nothing_overtakes_what_is_in_the_background() -> None:
    background = Background(at_once=1e9)
    background.executor.run(work())
    background.told()
    background.executor.run(Configure(MODEL.to_dict()))
    later = work()
    assert background.executor.run(later) is None
    assert isinstance(background.told(), Configured)
    told = background.told()
    assert isinstance(told, Computed)
    assert told.job == later.job


@pytest.mark.parametrize("known", [False, True])
def test_what_is_wrong_with_the_work_is_told(known: bool) -> None:
    background = Background(at_once=1e9)
    if known:
        background.executor.run(work())
        background.told()
    wrong = Compute(Job(work(documents=2).job.task, {"wte": bytes(8)}))
    if known:
        with pytest.raises(ValueError, match="missing or unknown parameters"):
            background.executor.run(wrong)
    else:
        background.executor.run(wrong)
        assert "missing or unknown parameters" in str(background.told())


def test_what_is_prepared_is_not_decoded_again_and_has_the_same_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    background = Background(at_once=1e9)
    decoded: list[Task] = []
    background.executor.run(work())
    background.told()
    told, plain = work(), work()
    real = answering.documents_of

    def documents_of(task: Task) -> PackedDocuments:
        decoded.append(task)
        return real(task)

    with monkeypatch.context() as patch:
        patch.setattr(answering, "documents_of", documents_of)
        background.executor.prepare(Prepare(told.job.task))
        answers = [background.executor.run(order) for order in (told, plain)]
    assert [task is told.job.task for task in decoded] == [True, False]
    first, second = (a.answer for a in answers if isinstance(a, Computed))
    assert isinstance(first, ShardResult)
    assert isinstance(second, ShardResult)
    assert first.gradient == second.gradient
    broken = replace(told.job.task, lengths=bytes(4))
    background.executor.prepare(Prepare(broken))  # says nothing: computing will
    with pytest.raises(ValueError, match="do not add up"):
        background.executor.run(Compute(replace(told.job, task=broken)))
