"""What somebody who looks on at a run has done to it: by the launcher, or by the coordinator.

Processes and links are the launcher's: workers are killed, frozen, slowed down, added, sent home,
cut off. The rest (a pause, a checkpoint now, another learning rate) is for the core of the
coordinator to decide, and goes there by the pipe of news (``coordinator/run/laboratory.py``), by
which also comes on record what was done to workers.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

from coordinator.core.events import ControlVerb
from coordinator.core.inputs import Wish
from coordinator.run.laboratory import line_asked, line_done
from lab.launch.channel import Asked
from lab.launch.children import Child
from lab.launch.requests import COMMAND, MOST_WORKERS, PAGE, RefusedError, Request, Verb
from lab.launch.restarts import Restarts
from lab.launch.surroundings import Surroundings

RETURN_SECONDS = 1.0  # until a worker that was killed is started again


class Control:
    """Does to a supervisor's ``children`` what is asked for.

    ``due``: when who is to be started; ``restarts``: of each of them, also of those to come.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        children: dict[int, Child],
        due: dict[int, float],
        restarts: dict[int, Restarts],
    ) -> None:
        self._surroundings = surroundings
        self._children, self._due, self._restarts = children, due, restarts
        self._paused = False
        self._killed: set[int] = set()  # by us, and not started again yet
        self._frozen: set[int] = set()
        self._removed: set[int] = set()
        self._by = PAGE  # who asks

    # --- what is asked for -----------------------------------------------------------------------

    def take(self, asked: Asked) -> None:
        """Do it, and answer."""
        try:
            asked.answers.put(self.perform(asked.request, asked.by))
        except RefusedError as error:
            asked.answers.put(error)
        except OSError as error:
            asked.answers.put(RefusedError(f"it cannot be done now: {error.strerror}"))

    def perform(self, request: Request, by: str = PAGE) -> str:
        """Do it. Returns what people are told. Raises RefusedError or OSError."""
        self._by = by
        return _DEEDS[request.verb](self, request)

    def _ask(self, wish: Wish, value: float = 0.0) -> None:
        self._surroundings.tell(line_asked(wish, self._by, value))

    def _note(self, verb: ControlVerb, number: int, factor: float = 1.0) -> None:
        self._surroundings.tell(line_done(verb, self._by, f"worker-{number}", factor))

    def _pause(self, request: Request) -> str:
        self._ask(Wish.PAUSE)
        self._paused = True
        return "the run pauses when what is under way is done"

    def _resume(self, request: Request) -> str:
        self._ask(Wish.RESUME)
        self._paused = False
        return "the run goes on"

    def _save(self, request: Request) -> str:
        self._ask(Wish.SAVE)
        return "a checkpoint is saved"

    def _change_rate(self, request: Request) -> str:
        self._ask(Wish.LEARNING_RATE, request.value)
        return f"learning rate {request.value:g} is asked for, from the next update on"

    def scale(self, count: int) -> str:
        """Have so many workers: add some, or send the last ones home. Raises RefusedError."""
        self._by = COMMAND
        there = [n for n in sorted(self._restarts) if n in self._children or n in self._due]
        there = [number for number in there if number not in self._removed]
        self._require_room(count - len(there))
        for _ in range(count - len(there)):
            self._add(Request(Verb.ADD))
        for number in there[count:]:
            with contextlib.suppress(RefusedError):  # it has just ended
                self._send_home(number)
        return f"{count} workers instead of {len(there)}"

    def _send_home(self, number: int) -> None:
        """Also one that was just to be started again."""
        if number in self._children:
            self._remove(Request(Verb.REMOVE, f"worker-{number}"))
            return
        self._note(ControlVerb.REMOVE, number)
        self._removed.add(number)
        del self._due[number]

    def _add(self, request: Request) -> str:
        self._require_room(1)
        number = max(self._restarts, default=0) + 1
        self._note(ControlVerb.ADD, number)
        self._restarts[number] = Restarts()
        self._due[number] = time.monotonic()
        return f"worker-{number} is added"

    def _require_room(self, more: int) -> None:
        if max(self._restarts, default=0) + more > MOST_WORKERS:
            raise RefusedError(f"a run has at most {MOST_WORKERS:,} workers, those that left too")

    def _kill(self, request: Request) -> str:
        child = self._running(request.worker)
        self._note(ControlVerb.KILL, child.number)
        self._killed.add(child.number)
        self._frozen.discard(child.number)
        child.process.kill()
        return f"{child.name} is killed, and started again in {RETURN_SECONDS:g} s"

    def _freeze(self, request: Request) -> str:
        child = self._running(request.worker)
        self._note(ControlVerb.FREEZE, child.number)
        self._frozen.add(child.number)
        child.process.send_signal(signal.SIGSTOP)
        return f"{child.name} is frozen"

    def _thaw(self, request: Request) -> str:
        child = self._running(request.worker)
        if child.number not in self._frozen:
            raise RefusedError(f"{child.name} is not frozen")
        self._note(ControlVerb.THAW, child.number)
        self._thaw_child(child)
        return f"{child.name} goes on"

    def _slow(self, request: Request) -> str:
        number = self._number(request.worker)
        self._note(ControlVerb.SLOW, number, request.value)
        self._surroundings.levers(number).set_slowness(request.value)
        return f"worker-{number} takes {request.value:g} times as long"

    def _cut(self, request: Request) -> str:
        number = self._number(request.worker)
        self._note(ControlVerb.CUT, number)
        self._surroundings.levers(number).set_cut(True)
        return f"the link of worker-{number} is cut"

    def _restore(self, request: Request) -> str:
        number = self._number(request.worker)
        if not self._surroundings.levers(number).cut:
            raise RefusedError(f"the link of worker-{number} is not cut")
        self._note(ControlVerb.RESTORE, number)
        self._surroundings.levers(number).set_cut(False)
        return f"the link of worker-{number} is there again"

    def _remove(self, request: Request) -> str:
        child = self._running(request.worker)
        self._note(ControlVerb.REMOVE, child.number)
        self._removed.add(child.number)
        child.process.send_signal(signal.SIGINT)
        if child.number in self._frozen:
            self._thaw_child(child)
        return f"{child.name} is asked to leave"

    def _number(self, name: str) -> int:
        """Of a worker that was started here, and has not been sent home. Raises RefusedError."""
        numbers = (n for n in self._restarts if n and f"worker-{n}" == name)
        number = next(numbers, None)
        if number is None:
            raise RefusedError(f"{name[:40]!r} is no worker that was started here")
        if number in self._removed:
            raise RefusedError(f"{name} has been asked to leave")
        return number

    def _running(self, name: str) -> Child:
        """The process of that worker. Raises RefusedError if there is none at the moment."""
        child = self._children.get(self._number(name))
        if child is None or child.process.poll() is not None:
            raise RefusedError(f"{name} does not run at the moment")
        return child

    # --- what happens ----------------------------------------------------------------------------

    def seconds_to_return(self, number: int) -> float | None:
        """When a worker that has ended is started again; None if it was not killed by us."""
        self._frozen.discard(number)
        if number in self._killed:
            self._killed.remove(number)
            return RETURN_SECONDS
        return None

    def has_left(self, number: int) -> bool:
        """Whether a worker that has ended was to leave."""
        return number in self._removed

    def coordinator_starts(self) -> None:
        """Tell the next coordinator what holds; one that has died has taken that along."""
        with contextlib.suppress(OSError):  # the pipe is full: it has enough to read
            self._tell_all()

    def _tell_all(self) -> None:
        for number, factor, cut in self._changed():
            if factor != 1.0:
                self._note(ControlVerb.SLOW, number, factor)
            if cut:
                self._note(ControlVerb.CUT, number)
        for number in sorted(self._frozen):
            self._note(ControlVerb.FREEZE, number)
        if self._paused:
            self._ask(Wish.PAUSE)

    def _changed(self) -> Iterator[tuple[int, float, bool]]:
        for number in sorted(self._restarts) if self._surroundings.controlled else ():
            if number and number not in self._removed:
                levers = self._surroundings.levers(number)
                yield number, levers.slowness, levers.cut

    def undo(self) -> bool:
        """Nobody else can: let go on what stands still or is slow. Returns whether anything was."""
        wanted = [Request(Verb.RESUME)] if self._paused else []
        wanted += [Request(Verb.THAW, f"worker-{number}") for number in sorted(self._frozen)]
        for number, factor, cut in self._changed():
            if factor != 1.0:
                wanted.append(Request(Verb.SLOW, f"worker-{number}", 1.0))
            if cut:
                wanted.append(Request(Verb.RESTORE, f"worker-{number}"))
        for request in wanted:
            with contextlib.suppress(RefusedError, OSError):  # it has just ended
                self.perform(request)
        return bool(wanted)

    def thaw_all(self) -> None:
        """Let everybody hear that the run ends."""
        for number in sorted(self._frozen):
            if (child := self._children.get(number)) is not None:
                self._thaw_child(child)

    def _thaw_child(self, child: Child) -> None:
        self._frozen.discard(child.number)
        child.process.send_signal(signal.SIGCONT)


_DEEDS: dict[Verb, Callable[[Control, Request], str]] = {
    Verb.PAUSE: Control._pause,
    Verb.RESUME: Control._resume,
    Verb.SAVE: Control._save,
    Verb.LEARNING_RATE: Control._change_rate,
    Verb.ADD: Control._add,
    Verb.KILL: Control._kill,
    Verb.FREEZE: Control._freeze,
    Verb.THAW: Control._thaw,
    Verb.SLOW: Control._slow,
    Verb.REMOVE: Control._remove,
    Verb.CUT: Control._cut,
    Verb.RESTORE: Control._restore,
}
