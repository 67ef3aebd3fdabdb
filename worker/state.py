"""All decisions of a worker: an event and the time in, actions out. No I/O, no clock, no numbers.

A worker offers itself until it is welcomed, computes what it is given in the order in which it
came, and says that it is alive in between. A coordinator that comes back in another epoch welcomes
it anew.

Longer than 300 lines because what happens and what is done stand beside the decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from microgpt.protocol import messages
from microgpt.support.records import record

HELLO_SECONDS = 0.5  # between two offers
UNHEARD_SECONDS = 2.0  # without an answer, after which people are told; and after ten times that
HEARTBEATS_PER_TIMEOUT = 4
MOST_AHEAD = 4  # tasks without their weights: the coordinator tells one, and some may come late

#: What tells a worker whether it takes part, or asks: of any run and epoch.
_MEMBERSHIP = (messages.Welcome, messages.Reregister, messages.Refuse)

Recipe: TypeAlias = Mapping[str, str | int | float | bool]


@record(frozen=True)
class Job:
    """A shard to compute: the coordinator's task and the weights that belong to it.

    ``replica``: how the replica that it is a task of is to be before, if that has been told.
    """

    task: messages.Task
    weights: Mapping[str, bytes]
    replica: messages.ReplicaState | None = None


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Connected:
    """A connection is made, the first or a new one: what was under way on the old one is lost."""


@record(frozen=True)
class Received:
    """A well-formed message of the coordinator."""

    message: messages.Message


@record(frozen=True)
class Computed:
    """A job is done. ``answer`` is what to send, an Answer or a Failure.

    None: it could not be done, as something that was sent before it has not come.
    """

    job: Job
    answer: messages.Message | None


@dataclass(frozen=True)
class Configured:
    """The engine for this model is made: work will be done at once."""

    model: Mapping[str, int]
    recipe: Recipe = field(default_factory=dict)


@dataclass(frozen=True)
class Disabled:
    """Nothing can be computed until ``Configured`` comes again: what we have is given up."""


@dataclass(frozen=True)
class Reported:
    """The engine has something to tell people."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class StopRequested:
    """Somebody wants the worker to leave."""


Event: TypeAlias = (
    Connected | Received | Computed | Configured | Disabled | Reported | Tick | StopRequested
)


# --- actions -------------------------------------------------------------------------------------


@record(frozen=True)
class Send:
    """Send a message to the coordinator."""

    message: messages.Message


@dataclass(frozen=True)
class Configure:
    """Make the engine for this model (fields of GPTConfig) and report it as ``Configured``.

    ``recipe``: what replicas do (``microgpt.replicas.recipe``), if there are any.
    """

    model: Mapping[str, int]
    recipe: Recipe = field(default_factory=dict)


@record(frozen=True)
class Prepare:
    """A task will be computed once its weights come: do what can be done without them."""

    task: messages.Task


@record(frozen=True)
class Compute:
    """Compute a job off the I/O thread and report it as ``Computed``."""

    job: Job


@dataclass(frozen=True)
class Note:
    """A line for people."""

    text: str


@dataclass(frozen=True)
class Leave:
    """End the worker. ``outcome`` is ``done``, ``left``, ``refused`` or ``alone``."""

    outcome: str
    reason: str


Action: TypeAlias = Send | Configure | Prepare | Compute | Note | Leave


class WorkerState:
    """A worker called ``name`` that computes with ``engine``; see ``handle``.

    ``libm``: digest of what its C library computes. ``address``: the coordinator's, and ``keys``:
    the folder of the keys that it is spoken to with, if any; both only to tell people.
    """

    __slots__ = (  # close together: the simulator has thousands
        "_actions", "_address", "_ahead", "_attempt", "_connected", "_is_wanted", "_keys",
        "_newest_round", "_now", "_pause", "_queue", "_replicas", "_sent", "_settled",
        "_tell_after", "_unheard_since", "_weights", "computing", "engine", "epoch", "finished",
        "libm", "model", "name", "ready", "recipe", "run",
    )  # fmt: skip

    def __init__(
        self, name: str, engine: str, libm: str = "", *, address: str = "", keys: str = ""
    ) -> None:
        self.name, self.engine, self.libm = name, engine, libm
        self._address, self._keys = address, keys
        self._unheard_since: float | None = None  # the first offer that was not answered
        self._tell_after = UNHEARD_SECONDS
        self._connected = False  # since then
        self.run = self.epoch = ""  # of the coordinator that has welcomed us
        self.model: Mapping[str, int] | None = None
        self.recipe: Recipe = {}
        self.ready = False  # whether the engine for the model is made
        self.computing: Job | None = None
        self._is_wanted = False  # whether the job under way was asked since the last offer
        self.finished = False
        self._settled = False  # whether the last offer was answered by a welcome
        self._attempt = 0  # how often we have begun again
        self._queue: deque[Job] = deque()
        self._weights: messages.Weights | None = None
        self._ahead: deque[messages.Task] = deque(maxlen=MOST_AHEAD)  # their weights come later
        self._replicas: dict[int, messages.ReplicaState] = {}  # for the next task of each
        self._newest_round = -1  # of all tasks in this epoch
        self._pause = HELLO_SECONDS  # between two signs of life
        self._sent = float("-inf")
        self._now = 0.0
        self._actions: list[Action] = []

    @property
    def queued(self) -> int:
        """How many jobs wait for the one under way."""
        return len(self._queue)

    def start(self, now: float) -> list[Action]:
        """Begin by offering to work."""
        self._now, self._actions = now, []
        self._offer()
        return self._actions

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at ``now`` (seconds of any steady clock); return what to do."""
        self._now, self._actions = now, []
        if not self.finished:
            _HANDLERS[type(event)](self, event)
        return self._actions

    # --- events ----------------------------------------------------------------------------------

    def _on_connected(self, event: Connected) -> None:
        self._offer()
        self._connected = True

    def _on_received(self, event: Received) -> None:
        message = event.message
        if isinstance(message, _MEMBERSHIP):
            self._on_membership(message)
        elif message.epoch != self.epoch or message.run != self.run:
            return  # a message of an earlier epoch of the coordinator
        elif isinstance(message, messages.Weights):
            self._on_weights(message)
        elif isinstance(message, messages.TaskAhead):
            self._on_task_ahead(message)
        elif isinstance(message, messages.Task):
            self._on_task(message)
        elif isinstance(message, messages.ReplicaState):
            self._replicas[message.replica] = message
        elif isinstance(message, messages.Stop):
            self._leave("done", message.reason)

    def _on_membership(self, message: messages.Message) -> None:
        """Something that counts whatever run and epoch it is of."""
        if isinstance(message, messages.Welcome):
            self._on_welcome(message)
        elif isinstance(message, messages.Refuse):
            self._leave("refused", f"the coordinator refuses this worker: {message.reason}")
        else:
            self._offer()

    def _on_welcome(self, message: messages.Welcome) -> None:
        if (message.run, message.epoch) != (self.run, self.epoch):
            self._note(f"{self.name} is welcome in run {message.run}")
            self._newest_round = -1
        elif self._settled or message.attempt < self._attempt:
            return  # late, over an older connection: what has come since is still in flight
        self._settled = True
        self._unheard_since = None
        self.run, self.epoch = message.run, message.epoch
        self._pause = message.seconds / HEARTBEATS_PER_TIMEOUT
        self._queue.clear()
        self._weights = None
        self._ahead.clear()
        self._replicas.clear()
        if (message.model, message.recipe) != (self.model, self.recipe):
            self.model, self.recipe, self.ready = message.model, message.recipe, False
            self._actions.append(Configure(message.model, message.recipe))
        elif self.ready:
            self._send(messages.Heartbeat(self.run, self.epoch, ready=True))

    def _on_weights(self, message: messages.Weights) -> None:
        """New weights: tasks that were told ahead of them can be begun.

        Older weights come late, over an older connection.
        """
        self._weights = message
        while self._ahead and self._ahead[0].step <= message.step:
            task = self._ahead.popleft()
            if task.step == message.step:
                self._on_task(task)

    def _on_task_ahead(self, task: messages.TaskAhead) -> None:
        if self._weights is not None and self._weights.step < task.step:
            where = task.run, task.epoch, task.step, task.start, task.count
            told = messages.Task(*where, task.tokens, task.lengths, round=task.round)
            self._ahead.append(told)
            self._actions.append(Prepare(told))

    def _on_task(self, task: messages.Task) -> None:
        if self._weights is None or self._weights.step != task.step:
            if not self._is_late(task):
                self._offer()  # we have missed something: begin again
            return
        replica = None
        if isinstance(task, messages.ReplicaTask):
            replica = self._replicas.pop(task.replica, None)
        if task.round > self._newest_round and not _is_redone(task):
            self._newest_round = task.round
        if replica is None and self.computing is not None and self.computing.task == task:
            self._is_wanted = True  # the answer is coming
        else:
            self._queue.append(Job(task, self._weights.weights, replica))
            self._compute_next()

    def _is_late(self, task: messages.Task) -> bool:
        """Whether a task for other weights is one of before, over an older connection.

        One that is to be done again may be: without it, the one that it is needed for fails.
        """
        return _is_redone(task) or task.round < self._newest_round

    def _on_computed(self, event: Computed) -> None:
        self.computing = None
        task = event.job.task
        if task.epoch == self.epoch and task.run == self.run:
            if event.answer is None:
                self._offer()  # begin again
            elif self._is_wanted and not _is_redone(task):
                self._send(event.answer)
        self._compute_next()

    def _on_configured(self, event: Configured) -> None:
        self.ready = (event.model, event.recipe) == (self.model, self.recipe)
        if self.ready and self._settled:
            self._send(messages.Heartbeat(self.run, self.epoch, ready=True))

    def _on_disabled(self, event: Disabled) -> None:
        self.ready, self.computing = False, None
        self._queue.clear()
        self._offer()  # begin again: the coordinator gives what we had to others

    def _on_reported(self, event: Reported) -> None:
        self._note(event.text)
        if self.run:
            self._send(messages.Status(self.run, self.epoch, event.text[: messages.MAX_TEXT]))

    def _on_tick(self, event: Tick) -> None:
        self._tell_of_silence()
        pause = self._pause if self._settled else HELLO_SECONDS
        if 0.0 <= self._now - self._sent < pause:
            return
        if self._settled:
            self._send(messages.Heartbeat(self.run, self.epoch, self.ready))
        else:
            self._offer()

    def _on_stop(self, event: StopRequested) -> None:
        self._send(messages.Goodbye(self.run, self.epoch))
        self._leave("left", "asked to stop")

    # --- actions ---------------------------------------------------------------------------------

    def _tell_of_silence(self) -> None:
        """Say what is waited for and what to check, a while after an offer without an answer."""
        if self._unheard_since is None or self._now - self._unheard_since < self._tell_after:
            return
        self._tell_after *= 10
        seconds = f"{self._now - self._unheard_since:.0f} s"
        checks = [] if self._connected else ["does a coordinator run there", "is the address right"]
        if self._keys:
            checks.append(f"is coordinator.key in {self._keys} the coordinator's")
        elif self._connected:
            checks.append("is it a coordinator that has this address")
        else:
            checks.append("does it want keys (--curve DIR)")
        what = "answer from" if self._connected else "connection to"
        self._note(f"no {what} {self._address} for {seconds}, still trying: {', '.join(checks)}?")

    def _offer(self) -> None:
        """Say Hello, and again and again until a welcome comes."""
        if self._unheard_since is None:
            self._unheard_since, self._tell_after = self._now, UNHEARD_SECONDS
            self._connected = False
        self._attempt += self._settled
        self._settled = False
        self._is_wanted = False  # to the coordinator we are new: others may have our job
        who = self.name, self.engine, self.libm
        self._send(messages.Hello(self.run, self.epoch, *who, self._attempt))

    def _compute_next(self) -> None:
        if self.computing is None and self._queue:
            self.computing = self._queue.popleft()
            self._is_wanted = self._settled
            self._actions.append(Compute(self.computing))

    def _leave(self, outcome: str, reason: str) -> None:
        self.finished = True
        self._actions.append(Leave(outcome, reason))

    def _send(self, message: messages.Message) -> None:
        self._sent = self._now
        self._actions.append(Send(message))

    def _note(self, text: str) -> None:
        self._actions.append(Note(text))


def _is_redone(task: messages.Task) -> bool:
    """Whether it is a task of a replica that was done before."""
    return isinstance(task, messages.ReplicaTask) and task.redo


_HANDLERS: dict[type[Any], Callable[[WorkerState, Any], None]] = {
    Connected: WorkerState._on_connected,
    Received: WorkerState._on_received,
    Computed: WorkerState._on_computed,
    Configured: WorkerState._on_configured,
    Disabled: WorkerState._on_disabled,
    Reported: WorkerState._on_reported,
    Tick: WorkerState._on_tick,
    StopRequested: WorkerState._on_stop,
}
