"""Where a worker computes: at once, or in a thread where that would keep it from talking."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol, TypeAlias, runtime_checkable

from microgpt.engine import make_engine
from microgpt.engine.answering import Answerer
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.protocol.messages import Message, ShardResult
from microgpt.replicas.recipe import from_plain
from microgpt.replicas.work import Lie, ReplicaStateError
from microgpt.support.stages import Talk
from microgpt.support.step_clock import NO_CLOCK, NoClock
from microgpt.support.user_class import OwnCodeError
from worker.levers import NO_LEVERS, NoLevers
from worker.state import Compute, Computed, Configure, Configured, Event, Job, Prepare, Reported

LOOK_SECONDS = 0.05  # between two looks at whether we are still to be slow
AT_ONCE_SECONDS = 0.05  # nobody is kept waiting for longer by what is done at once

Report: TypeAlias = Callable[[str], None]


@runtime_checkable
class WarmsUp(Protocol):
    """An engine that has something to do before its first shard."""

    def warm_up(self) -> None:
        """Compile or load."""


class Calculator:
    """Computes jobs with one engine, whose model may be changed between them.

    ``trusted``: the files of a run's own that may be run; see ``microgpt.replicas.recipe``.
    """

    def __init__(
        self,
        engine_name: str,
        report: Report,
        trusted: Collection[str] = (),
        lie: Lie | None = None,
    ) -> None:
        self._name, self._report, self._lie = engine_name, report, lie
        self._trusted = trusted
        self._answerer: Answerer | None = None

    def configure(self, order: Configure) -> None:
        """Make the engine. Raises ValueError for a bad model, OwnCodeError for a bad recipe."""
        config = GPTConfig(**order.model)
        try:
            recipe = from_plain(order.recipe, self._trusted) if order.recipe else None
        except ValueError as error:
            raise OwnCodeError(str(error)) from error
        with Talk(self._report, f"preparing the {self._name} engine"):
            engine = make_engine(self._name, config)
            if isinstance(engine, WarmsUp):
                engine.warm_up()
        self._answerer = Answerer(engine, parameter_shapes(config), recipe, self._lie)

    def prepare(self, order: Prepare) -> None:
        """Look into a task that will be computed soon."""
        if self._answerer is not None:
            self._answerer.prepare(order.task)

    def compute(self, job: Job, clock: NoClock = NO_CLOCK) -> Message:
        """The ShardResult of a job, or the Failure if a document has no finite gradient.

        Raises ValueError if the weights do not fit the model.
        """
        if self._answerer is None:
            raise ValueError("work came before the model")
        if job.replica is not None:
            self._answerer.restore(job.replica)
        return self._answerer.answer(job.weights, job.task, clock)


class Executor:
    """Runs a ``Calculator``: what is soon done in the caller's thread, all else in the background.

    A hand-over between threads takes as long as some ten documents. What takes longer must not keep
    the caller from signs of life and signals: making an engine, and shards that will take more
    than ``at_once`` seconds or whose time is not known yet.

    ``done`` is called from the background with every event of its own; ``broken`` with the text of
    an error that is not the coordinator's or the data's to answer for. ``clock``, the caller's,
    hears which step is begun, and what is done in the caller's thread. ``slowness``: how many times
    as long as it takes a job is to take, as on a slower machine; ``levers`` have one more factor,
    which changes. ``lie``: see ``microgpt.replicas.work``.
    """

    def __init__(
        self,
        engine: str,
        done: Callable[[Event], None],
        broken: Callable[[str], None],
        at_once: float = AT_ONCE_SECONDS,
        clock: NoClock = NO_CLOCK,
        trusted: Collection[str] = (),
        slowness: float = 1.0,
        lie: Lie | None = None,
        levers: NoLevers = NO_LEVERS,
    ) -> None:
        self._levers = levers
        self._done, self._broken, self._at_once = done, broken, at_once
        self._clock, self._slowness = clock, slowness
        self._calculator = Calculator(engine, lambda text: done(Reported(text)), trusted, lie)
        self._orders: queue.SimpleQueue[Configure | Compute] = queue.SimpleQueue()
        self._in_background = 0  # orders that have not come back
        #: Seconds that a document takes on this machine, in training or not.
        self._paces: dict[bool, float] = {}
        # A daemon: leaving does not wait for a document that takes seconds.
        threading.Thread(target=self._work, name="compute", daemon=True).start()

    def run(self, order: Configure | Compute) -> Event | None:
        """Do this after what was given before. Returns the event if it is done already.

        Raises what computing raises, but only for what is done already.
        """
        self._clock.lap("rest")
        if isinstance(order, Compute):
            self._clock.enter(order.job.task.step + 1)
            if self._is_short(order.job):
                return self._computed(order, self._clock)
        self._in_background += 1
        self._orders.put(order)
        return None

    def prepare(self, order: Prepare) -> None:
        """Do what can be done of a task without its weights, unless something is under way."""
        if not self._in_background:
            self._calculator.prepare(order)

    def taken_in(self, event: Event) -> None:
        """The caller has heard of an event from the background."""
        self._in_background -= isinstance(event, (Configured, Computed))

    def _is_short(self, job: Job) -> bool:
        pace = self._paces.get(job.task.training)
        slow = self._slowness * self._levers.slowness
        known = pace is not None and slow * pace * job.task.count <= self._at_once
        return known and not self._in_background

    @property
    def busy(self) -> bool:
        """Whether something is under way in the background."""
        return self._in_background > 0

    def _computed(self, order: Compute, clock: NoClock = NO_CLOCK) -> Computed:
        began, used = time.perf_counter(), time.process_time()
        try:
            answer: Message | None = self._calculator.compute(order.job, clock)
        except ReplicaStateError:
            answer = None
        took, task = time.perf_counter() - began, order.job.task
        self._paces[task.training] = took / task.count
        slow = self._slowness * self._levers.slowness
        if slow > 1.0:
            # A slow machine is not slower still because others wait for this one's processors.
            own = min(took, time.process_time() - used)
            slow = self._dawdle(began, own)
            if isinstance(answer, ShardResult):
                answer = replace(answer, seconds=slow * own)
        clock.lap("encode")
        return Computed(order.job, answer)

    def _dawdle(self, began: float, took: float) -> float:
        """Wait until a job that took so long has taken as long as it is to; how many times that."""
        while True:
            slow = self._slowness * self._levers.slowness
            left = began + slow * took - time.perf_counter()
            if left <= 0.0:
                return slow
            time.sleep(min(left, LOOK_SECONDS))

    def _work(self) -> None:
        try:
            while True:
                order = self._orders.get()
                if isinstance(order, Configure):
                    self._calculator.configure(order)
                    self._paces.clear()
                    self._done(Configured(order.model, order.recipe))
                else:
                    self._done(self._computed(order))
        except Exception as error:  # whatever it is, the worker must not stay and be silent
            self._broken(describe(error))


def describe(error: Exception) -> str:
    """What went wrong, for people: it was the engine, unless a user's own code is to blame."""
    if isinstance(error, OwnCodeError):
        return str(error)
    return f"the engine failed: {type(error).__name__}: {error}"
