"""What makes life hard for the workers of a run, as its conditions say: links, slowness, failures.

The supervisor asks it where a worker is to connect, with which flags it starts, and when it is to
be killed. The way between a worker and the coordinator is a proxy of its own, in a thread here.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack
from random import Random
from types import TracebackType

from coordinator.core.events import ConditionChange
from coordinator.run.laboratory import line_of
from lab.conditions import Conditions, Failures, Link, OnFailure
from lab.faults.proxy import Proxy
from lab.launch.levers import SharedLevers
from microgpt.support.cli import UserError

ANY_PORT = "tcp://127.0.0.1:0"


class Surroundings:
    """Of a run with the seed ``seed``, which decides all that is drawn. Close it after the run.

    ``control``: somebody who looks on may slow workers down and cut their links, by ``levers``.
    """

    def __init__(self, conditions: Conditions, seed: int, *, control: bool = False) -> None:
        self.controlled = control
        self._levers: dict[int, SharedLevers] = {}
        self._conditions, self._seed = conditions, seed
        self._proxies: dict[int, Proxy] = {}
        self._failures: dict[int, Random] = {}
        self._dead: set[int] = set()  # workers that we have killed
        self._close = ExitStack()
        self._reading, self._writing = os.pipe()  # of the coordinator's news
        os.set_blocking(self._writing, False)
        for descriptor in (self._reading, self._writing):
            self._close.callback(os.close, descriptor)

    def __enter__(self) -> Surroundings:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close.close()

    def bind(self, wanted: str | None) -> str | None:
        """The address for the coordinator, None for a private one. Raises UserError.

        A proxy needs TCP on both of its sides.
        """
        if not self._conditions.have_links:
            return wanted
        if wanted is not None and not wanted.startswith("tcp://"):
            raise UserError(
                f"--link needs an address that bytes reach by TCP, and --bind is {wanted}: "
                "leave it out, or give tcp://HOST:PORT"
            )
        return wanted or ANY_PORT

    def coordinator_flags(self) -> list[str]:
        """What the coordinator puts on record; it must also get ``descriptors``."""
        told = [word for text in self._conditions.texts for word in ("--condition", text)]
        return [*told, "--news", str(self._reading)]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the coordinator reads from."""
        return (self._reading,)

    def levers(self, number: int) -> SharedLevers:
        """Those of worker ``number``, where there is control."""
        if number not in self._levers:
            self._levers[number] = SharedLevers(f"worker-{number}")
            self._close.callback(self._levers[number].close)
        return self._levers[number]

    def worker_descriptors(self, number: int) -> tuple[int, ...]:
        """What worker ``number`` must get."""
        return (self.levers(number).descriptor,) if self.controlled else ()

    def worker_flags(self, number: int) -> list[str]:
        """What worker ``number`` is started with."""
        meets = self._conditions.of(number)
        flags = []
        if meets.machine.slowness > 1.0:
            flags += ["--slowness", repr(meets.machine.slowness)]
        if meets.lie:
            flags += ["--lie", meets.lie, str(self._draw("lie", number).getrandbits(32))]
        if self.controlled:
            flags += ["--levers", str(self.levers(number).descriptor)]
        return flags

    def address(self, number: int, coordinator: str) -> str:
        """Where worker ``number`` connects to reach the coordinator at that address."""
        link = self._conditions.of(number).link
        if link == Link():
            return coordinator
        if number not in self._proxies:
            host, _, port = coordinator.removeprefix("tcp://").rpartition(":")
            draw = self._draw("link", number).getrandbits(32)
            proxy = Proxy((host.strip("[]"), int(port)), link=link, seed=draw)
            self._proxies[number] = self._close.enter_context(proxy)
        return self._proxies[number].address

    def seconds_to_failure(self, number: int) -> float | None:
        """How long worker ``number``, which begins to work now, is left alone; None: for good."""
        failures = self._failures_of(number)
        if failures is None:
            return None
        rng = self._failures.setdefault(number, self._draw("fail", number))
        return rng.expovariate(1.0 / failures.mtbf)

    @property
    def on_failure(self) -> OnFailure:
        """What is done when a process has failed."""
        return self._conditions.on_failure

    def kills(self, number: int) -> None:
        """Worker ``number`` is being killed as it was to be."""
        self._dead.add(number)

    def killed(self, number: int, name: str) -> None:
        """Worker ``number`` has ended; whoever is the coordinator then is told if that was us."""
        if number in self._dead:
            self._tell(ConditionChange.KILLED, number, name)

    def seconds_to_return(self, number: int) -> float | None:
        """When a worker that has ended is started again; None if it was not us who killed it."""
        failures = self._failures_of(number)
        return failures.mttr if failures is not None and number in self._dead else None

    def starts(self, number: int, name: str) -> None:
        """Worker ``number`` is started, for the first time or again."""
        if number in self._dead:
            self._dead.remove(number)
            self._tell(ConditionChange.RETURNED, number, name)

    def _failures_of(self, number: int) -> Failures | None:
        return self._conditions.of(number).failures

    def _tell(self, change: ConditionChange, number: int, name: str) -> None:
        failures = self._failures_of(number)
        if failures is not None:
            text = f"--fail mtbf={failures.mtbf:g}s,mttr={failures.mttr:g}s"
            with contextlib.suppress(OSError):  # full, as no coordinator reads: it is only news
                self.tell(line_of(change, name, text))

    def tell(self, line: bytes) -> None:
        """Send the coordinator a line of news. Raises OSError if it has not read earlier ones."""
        os.write(self._writing, line)

    def _draw(self, what: str, number: int) -> Random:
        return Random(f"{self._seed} {what} {number}")
