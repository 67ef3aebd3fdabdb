"""The thread that computes, so that the thread that talks is never kept waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from microgpt.engine import make_engine
from microgpt.engine.answering import answer
from microgpt.engine.base import Engine
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.protocol.messages import Message
from microgpt.support.stages import Talk
from worker.state import Compute, Computed, Configure, Configured, Event, Job, Reported

Report: TypeAlias = Callable[[str], None]


@runtime_checkable
class WarmsUp(Protocol):
    """An engine that has something to do before its first shard."""

    def warm_up(self) -> None:
        """Compile or load."""


class Calculator:
    """Computes jobs with one engine, whose model may be changed between them."""

    def __init__(self, engine_name: str, report: Report) -> None:
        self._name, self._report = engine_name, report
        self._engine: Engine | None = None

    def configure(self, model: Mapping[str, int]) -> None:
        """Make the engine. Raises ValueError for a model that cannot be."""
        config = GPTConfig(**model)
        self._shapes = parameter_shapes(config)
        with Talk(self._report, f"preparing the {self._name} engine"):
            self._engine = make_engine(self._name, config)
            if isinstance(self._engine, WarmsUp):
                self._engine.warm_up()

    def compute(self, job: Job) -> Message:
        """The Answer to a job, or the Failure if a document has no finite gradient.

        Raises ValueError if the weights do not fit the model.
        """
        if self._engine is None:
            raise ValueError("work came before the model")
        return answer(self._engine, self._shapes, job.weights, job.task)


class ComputeThread:
    """Runs a ``Calculator`` in the background.

    ``done`` is called from the thread with every event; ``broken`` with the text of an error that
    is not the coordinator's or the data's to answer for.
    """

    def __init__(
        self, engine: str, done: Callable[[Event], None], broken: Callable[[str], None]
    ) -> None:
        self._done, self._broken = done, broken
        self._calculator = Calculator(engine, lambda text: done(Reported(text)))
        self._orders: queue.SimpleQueue[Configure | Compute] = queue.SimpleQueue()
        # A daemon: leaving does not wait for a document that takes seconds.
        threading.Thread(target=self._work, name="compute", daemon=True).start()

    def submit(self, order: Configure | Compute) -> None:
        """Do this after what was submitted before."""
        self._orders.put(order)

    def _work(self) -> None:
        try:
            while True:
                order = self._orders.get()
                if isinstance(order, Configure):
                    self._calculator.configure(order.model)
                    self._done(Configured(order.model))
                else:
                    self._done(Computed(order.job, self._calculator.compute(order.job)))
        except Exception as error:  # whatever it is, the worker must not stay and be silent
            self._broken(f"{type(error).__name__}: {error}")
