"""The coordinator's shell: socket, clock, signals and files around the pure state.

Polls, decodes, hands events to ``CoordinatorState`` and performs the actions it returns. Makes no
decisions of its own.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from coordinator.checkpoints import CheckpointWriter
from coordinator.console import Console
from coordinator.events import (
    Action,
    Event,
    Finish,
    Misbehaved,
    Note,
    Save,
    Saved,
    Send,
    StepDone,
    StopRequested,
    Tick,
)
from coordinator.record import RunRecord
from coordinator.state import CoordinatorState
from coordinator.transport import Transport
from microgpt import messages

TICK_SECONDS = 0.05
COMPLAINT_SECONDS = 1.0  # one line about foreign bytes in this time


class Server:
    """Runs a ``CoordinatorState`` until it is finished; see ``serve``."""

    def __init__(
        self,
        state: CoordinatorState,
        transport: Transport,
        record: RunRecord,
        console: Console,
    ) -> None:
        self._state, self._transport = state, transport
        self._record, self._console = record, console
        self._saved: queue.SimpleQueue[Saved] = queue.SimpleQueue()
        self._signal = 0
        self._finish: Finish | None = None
        self._encoded: tuple[messages.Message | None, bytes] = (None, b"")
        self._counted = (0, 0)
        self._complained, self._uncounted = -COMPLAINT_SECONDS, 0

    def saved(self, event: Saved) -> None:
        """The checkpoint writer's report. May be called from any thread."""
        self._saved.put(event)
        self._transport.wake()

    def serve(self, writer: CheckpointWriter) -> tuple[Finish, int]:
        """Train. Returns how it ended, and the signal that ended it or 0."""
        self._writer = writer
        self._console.refresh(())
        with self._signals():
            self._perform(self._state.start(time.monotonic()))
            ticked = time.monotonic()
            while self._finish is None:
                self._transport.wait(TICK_SECONDS)
                for event in self._transport.receive():
                    self._handle(event)
                while not self._saved.empty():
                    self._handle(self._saved.get())
                if self._signal:
                    self._handle(StopRequested())
                if time.monotonic() - ticked >= TICK_SECONDS:
                    ticked = time.monotonic()
                    self._handle(Tick())
                self._console.refresh(self._state.workers.values())
        return self._finish, self._signal

    def _handle(self, event: Event) -> None:
        if isinstance(event, Misbehaved) and event.peer not in self._state.workers:
            self._complain(event)
        else:
            self._perform(self._state.handle(event, time.monotonic()))
        if isinstance(event, Misbehaved):
            self._transport.cut_off(event.peer)

    def _complain(self, event: Misbehaved) -> None:
        """Refuse a stranger who does not speak the protocol, and say so at most once a second."""
        refusal = messages.Refuse(self._state.run, self._state.life, event.reason[:500])
        self._transport.send(event.peer, messages.encode(refusal))
        self._uncounted += 1
        now = time.monotonic()
        if now - self._complained >= COMPLAINT_SECONDS:
            more = f" ({self._uncounted} times since the last line)" if self._uncounted > 1 else ""
            text = f"ignored a message of somebody who is no worker: {event.reason}{more}"
            self._perform([Note("foreign", text, warning=True)])
            self._complained, self._uncounted = now, 0

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._transport.send(action.peer, self._encode(action.message))
            elif isinstance(action, StepDone):
                self._step_done(action.record)
            elif isinstance(action, Note):
                self._console.note(action)
                self._event({"kind": action.kind, "text": action.text, **action.details})
            elif isinstance(action, Save):
                self._save(action)
            else:
                self._finish = action
                self._event({"kind": "finished", "outcome": action.outcome, "text": action.reason})

    def _encode(self, message: messages.Message) -> bytes:
        """Weights go to every worker: they are packed once."""
        if message is not self._encoded[0]:
            self._encoded = (message, messages.encode(message))
        return self._encoded[1]

    def _step_done(self, record: Mapping[str, Any]) -> None:
        sent, received = self._transport.bytes_sent, self._transport.bytes_received
        full = {
            **record,
            "bytes_sent": sent - self._counted[0],
            "bytes_received": received - self._counted[1],
        }
        self._counted = (sent, received)
        self._record.step(full)
        self._console.step(full)

    def _save(self, save: Save) -> None:
        skipped = self._writer.submit(save)
        if skipped is not None and skipped != save.state.step:
            text = f"the disk is slow: the checkpoint of step {skipped} is skipped for a newer one"
            self._perform([Note("checkpoint_skipped", text, {"step": skipped}, warning=True)])

    def _event(self, event: Mapping[str, Any]) -> None:
        self._record.event({"time": time.time(), "step": self._state.training.step, **event})

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            self._signal = self._signal or number
            self._transport.wake()

        before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
