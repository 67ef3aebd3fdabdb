"""All decisions of an aggregator: an event and the time in, actions out. No I/O, no clock.

Towards its parent it is a worker (``worker.state``) whose engine is a crew of workers below it
(``aggregator.crew``). It is ready as long as one of them is. When the last one has been gone for as
long as a worker may be silent, it begins again with its parent, as a worker does that has missed
something: what it was given goes to others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from aggregator.crew import Crew
from coordinator.core import actions as downwards
from coordinator.core import inputs
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.event_text import describe
from coordinator.core.events import OtherPlatform
from microgpt.protocol import messages
from worker import state as upwards
from worker.state import WorkerState

ENGINE = "aggregator"  # what it is called in the place of an engine
TELL_SECONDS = 1.0  # at least, from telling the parent how many workers there are to doing so again
NO_REPLICAS = (
    "this run gives work to replicas, whose state stays with one worker, and an aggregator only "
    "adds gradients up: connect the workers to the coordinator itself"
)

#: What comes from workers below.
FromBelow: TypeAlias = inputs.Received | inputs.Misbehaved | inputs.Disconnected
Event: TypeAlias = upwards.Event | FromBelow | inputs.Judged
_FROM_BELOW = (inputs.Received, inputs.Misbehaved, inputs.Disconnected)


@dataclass(frozen=True)
class Listen:
    """Let workers come in, from now on with this ``model`` (fields of GPTConfig) and ``recipe``."""

    model: Mapping[str, int]
    recipe: upwards.Recipe


Action: TypeAlias = upwards.Send | upwards.Note | upwards.Leave | Listen | downwards.Action


class AggregatorState:
    """An aggregator called ``name``; see ``handle``.

    ``life`` is this process's alone, so that nobody below takes its words for those of another.
    ``libm``: our digest. ``address`` and ``keys``: see ``WorkerState``.
    """

    def __init__(
        self, name: str, life: str, libm: str = "", *, address: str = "", keys: str = ""
    ) -> None:
        self._life, self._libm = life, libm
        self._parent = WorkerState(name, ENGINE, libm, address=address, keys=keys)
        self._crew: Crew | None = None
        self._crews = 0  # so far
        self._crew_of = ("", "")  # run and epoch of the parent
        self._welcome: messages.Welcome | None = None
        self._out = ActionBuffer()
        self._actions: list[Action] = []
        self._now = 0.0
        self._empty_since: float | None = None  # since when the last worker is gone
        self._told, self._told_at = -1, float("-inf")  # how many workers there were, and when

    @property
    def name(self) -> str:
        """What the parent calls it."""
        return self._parent.name

    @property
    def finished(self) -> bool:
        """Whether it has nothing more to do than to send workers home."""
        return self._parent.finished

    @property
    def crew(self) -> Crew | None:
        """The workers below; None before the first welcome."""
        return self._crew

    @property
    def queued(self) -> int:
        """How many jobs wait for the one under way."""
        return self._parent.queued

    def start(self, now: float) -> list[Action]:
        """Begin by offering to work."""
        self._begin(now)
        self._follow(self._parent.start(now))
        return self._actions

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at ``now`` (seconds of any steady clock); return what to do.

        Raises ValueError if the parent's work is malformed.
        """
        self._begin(now)
        if isinstance(event, _FROM_BELOW):
            if self._crew is not None:  # else nobody can be told anything yet, and asks again
                self._crew.take(event, now)
        elif isinstance(event, inputs.Judged):
            if self._crew is not None:
                self._crew.judged(event, now)
        else:
            self._of_parent(event)
        if not self.finished:
            self._go_on()
        self._take_actions()
        return self._actions

    def _begin(self, now: float) -> None:
        self._now, self._actions = now, []
        self._out.begin(now)

    def _take_actions(self) -> None:
        """What the crew has decided, beside what the parent is told."""
        for action in self._out.actions:
            self._actions.append(action)
            if isinstance(action, OtherPlatform) and not self.finished:
                self._follow(self._parent.handle(upwards.Reported(describe(action)), self._now))
        self._out.begin(self._now)

    # --- the parent ------------------------------------------------------------------------------

    def _of_parent(self, event: upwards.Event) -> None:
        welcome = event.message if isinstance(event, upwards.Received) else None
        if isinstance(welcome, messages.Welcome):
            if (welcome.run, welcome.epoch) != self._crew_of:
                self._parent.ready = False  # until one of the workers is welcome in that epoch
            self._welcome = welcome
        self._follow(self._parent.handle(event, self._now))
        if isinstance(event, upwards.Tick) and self._crew is not None:
            self._crew.tick(self._now)
        epoch = self._parent.run, self._parent.epoch
        if self._welcome is not None and epoch != self._crew_of:
            self._crew_of = epoch
            self._call_a_crew(self._welcome)

    def _call_a_crew(self, welcome: messages.Welcome) -> None:
        """Begin with the workers of an earlier epoch, and who else comes."""
        before = [] if self._crew is None else [*self._crew.members.workers]
        # A late welcome may bring an earlier epoch back: what was said in it is not meant now.
        self._crews += 1
        epoch = f"{welcome.epoch}.{self._life}.{self._crews}"
        self._crew = Crew(self._out, welcome, epoch, self._libm, self._now)
        self._crew.call(before)
        if self._parent.computing is not None:  # for the earlier epoch
            lost = upwards.Computed(self._parent.computing, None)
            self._follow(self._parent.handle(lost, self._now))

    def _follow(self, decided: list[upwards.Action]) -> None:
        """What is decided towards the parent: an engine's part is the crew's."""
        for action in decided:
            if isinstance(action, upwards.Configure):
                self._actions.append(Listen(action.model, action.recipe))
            elif isinstance(action, upwards.Prepare):
                if self._crew is not None:
                    self._crew.prepare(action.task)
            elif isinstance(action, upwards.Compute):
                self._compute(action.job)
            else:
                if isinstance(action, upwards.Leave) and action.outcome == "done" and self._crew:
                    self._crew.dismiss(action.reason)
                self._actions.append(action)

    def _compute(self, job: upwards.Job) -> None:
        if isinstance(job.task, messages.ReplicaTask):
            self._follow(self._parent.handle(upwards.StopRequested(), self._now)[:-1])
            self._actions.append(upwards.Leave("refused", NO_REPLICAS))
        elif self._crew is not None:
            self._crew.begin(job, self._now)

    # --- in between ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Answer the parent what is done, and say when there is somebody to work, or nobody."""
        crew, parent = self._crew, self._parent
        while crew is not None and not self.finished:
            if crew.size and not parent.ready and parent.model is not None:
                parent_event: upwards.Event = upwards.Configured(parent.model, parent.recipe)
            elif parent.ready and self._is_abandoned(crew):
                crew.give_up()
                parent_event = upwards.Disabled()
            elif (done := self._done(crew)) is not None:
                parent_event = done
            else:
                break
            self._follow(parent.handle(parent_event, self._now))
        if crew is not None and crew.size != self._told and self._parent.ready:
            self._tell_size(crew.size)

    def _is_abandoned(self, crew: Crew) -> bool:
        """Whether nobody has been there for a while. On a busy machine all may seem to be gone for
        a moment, and what they have in hand counts if they come back.
        """
        if crew.size:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = self._now
        timeout = self._welcome.seconds if self._welcome is not None else 0.0
        return self._empty_since is not None and self._now - self._empty_since >= timeout

    def _done(self, crew: Crew) -> upwards.Computed | None:
        """The job under way, if it is over."""
        job = self._parent.computing
        try:
            answer = crew.finish()
        except LookupError as error:
            self._actions.append(upwards.Note(f"given up: {error}"))
            return None if job is None else upwards.Computed(job, None)
        return None if answer is None or job is None else upwards.Computed(job, answer)

    def _tell_size(self, size: int) -> None:
        """Let people at the parent know how many compute here."""
        if self._now - self._told_at < TELL_SECONDS:
            return
        self._told, self._told_at = size, self._now
        many = "1 worker computes" if size == 1 else f"{size} workers compute"
        said = upwards.Reported(f"{many} for it")
        self._follow(self._parent.handle(said, self._now))
