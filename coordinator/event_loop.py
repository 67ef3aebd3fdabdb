"""The coordinator's shell: sockets, clock, signals, files around the state. It decides nothing."""

from __future__ import annotations

import os
import queue
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from coordinator.checkpointing.checkpoint_log import CheckpointLog, Complaints
from coordinator.checkpointing.server import CheckpointServer
from coordinator.checkpointing.writer import CheckpointWriter
from coordinator.core import inputs
from coordinator.core.actions import Action, Finish, Judge, RecordStep, Save, Send
from coordinator.core.events import Event, EventBase, Fault, Finished, Level, Outcome
from coordinator.core.save_deferral import SaveDeferral
from coordinator.core.state import CoordinatorState
from coordinator.judge import JudgeProcess
from coordinator.net.encoder import Encoder
from coordinator.net.offenders import Offenders
from coordinator.net.router import Transport
from coordinator.run.console import Console
from coordinator.run.reporter import Reporter
from coordinator.run.run_directory import RunDirectory
from microgpt.protocol import messages
from microgpt.replicas.recipe import to_plain
from microgpt.support import signals

TICK_SECONDS = 0.05
LAST_LOOK_SECONDS = 1.5  # for who asks every second whether there is a newer checkpoint
FAREWELL_SECONDS = 0.5  # for workers to hear that they may go
RESCUE_SECONDS = 10.0  # for the last checkpoint when nothing else can be relied on any more
#: What other threads have to say.
Report: TypeAlias = inputs.Saved | inputs.Judged | inputs.Asked | Event


class EventLoop:
    """Runs a ``CoordinatorState`` until it is finished; see ``serve``.

    ``parent`` is the process to end with, if that ends first; 0 for none.
    """

    def __init__(
        self,
        state: CoordinatorState,
        transport: Transport,
        record: RunDirectory,
        console: Console,
        checkpoint_server: CheckpointServer,
        parent: int = 0,
    ) -> None:
        self._parent = parent
        transport.let_in(state.workers, lambda peer: state.workers[peer].proven)
        self._state, self._transport, self._clock = state, transport, transport.clock
        self._record, self._console, self._checkpoint_server = record, console, checkpoint_server
        self._reported: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._judge = JudgeProcess(
            state.config.model.to_dict(), to_plain(state.config), self._judged
        )
        self._reports = CheckpointLog()
        self._saves = SaveDeferral()
        self._signal = 0
        self._offenders = Offenders()
        self._finish: Finish | None = None
        self._broken = False  # whether something has gone wrong in here already
        self._encoder = Encoder()
        self._stop_requested = False
        self._complaints = Complaints()
        self._reporter = Reporter(state, console, record)

    def report(self, report: inputs.Saved | inputs.Asked | Event) -> None:
        """What the checkpoint writer or somebody who looks on says. From any thread."""
        if isinstance(report, inputs.Saved) and not report.error:
            self._checkpoint_server.saved(report.step)
        self._reported.put(report)
        if self._state.closing is not None or isinstance(report, inputs.Asked):
            self._transport.wake()  # all else has time until something else does

    def serve(self, writer: CheckpointWriter) -> tuple[Finish, int]:
        """Train. Returns how it ended, and the signal that ended it or 0.

        Signals to end are the server's from here on, also after this has returned: a second
        one must not break off what the first has begun.
        """
        for number in signals.SIGNALS:
            signal.signal(number, self._on_signal)
        self._writer = writer
        self._ticked = time.monotonic()
        self._reporter.begin(self._ticked)
        self._do(lambda: self._perform(self._state.start(self._ticked), self._ticked))
        while self._finish is None:
            self._do(self._turn)
        finish = self._finish
        self._judge.close()
        self._do(self._see_off)
        return finish, self._signal

    def _do(self, work: Callable[[], None]) -> None:
        """Do a part of the work. Whatever goes wrong in it, the state is saved."""
        try:
            work()
        except Exception as error:  # a fault of this program, or the memory is full
            self._give_up(error)

    def _turn(self) -> None:
        """Take in what has happened since the last time, or wait a moment for it."""
        self._console.refresh(self._state.workers.values(), self._state.missed)
        self._hand_over()
        self._record.settle()
        self._clock.lap("rest")
        self._transport.wait(TICK_SECONDS)
        self._clock.lap("waiting")
        for event in self._transport.receive():
            self._handle(event)
            self._clock.lap("rest")
        self._clock.lap("receive")
        if self._state.look_ahead.due:
            self._handle(inputs.Idle())
        while not self._reported.empty():
            self._hear(self._reported.get())
        self._checkpoint_server.hand_out(time.monotonic())
        self._stop_if_asked()
        if time.monotonic() - self._ticked >= TICK_SECONDS:
            self._ticked = time.monotonic()
            self._record.flush()
            self._cut_off()
            self._handle(inputs.Tick())
            self._tell_of_checkpoints()

    def _give_up(self, error: Exception) -> None:
        """End the run with its state saved; at the second error without looking left or right."""
        if self._finish is not None:
            return  # all is saved
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        reason = f"a fault of this program ({where}): {type(error).__name__}: {error}"
        if not self._broken:
            self._broken = True
            fault = Fault(reason, "".join(traceback.format_exception(error)))
            self._do(lambda: self._reporter.record(fault, time.monotonic()))
            self._do(lambda: self._handle(inputs.Broken(reason)))
            return
        self._finish = Finish("failed", reason)
        self._submit(Save(self._state.resumable))
        self._writer.close(RESCUE_SECONDS)

    def _see_off(self) -> None:
        """Wait for workers to go, for a moment: a connection that is closed takes along what the
        other side has not read yet, and that may be the word that they are not needed any more.
        """
        until = time.monotonic() + FAREWELL_SECONDS
        while self._transport.connected(self._state.workers):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._transport.wait(left)
            for event in self._transport.receive():
                self._handle(event)

    def linger(self, seconds: float) -> None:
        """Send workers home who come after the end, or until somebody wants us to stop.

        Whoever looks on is given time to fetch the last checkpoint.
        """
        if self._checkpoint_server.watched(time.monotonic()):
            seconds = max(seconds, LAST_LOOK_SECONDS)
        until = time.monotonic() + seconds
        while not self._signal and (left := until - time.monotonic()) > 0:
            self._transport.wait(left)
            for event in self._transport.receive():
                self._handle(event)
            self._checkpoint_server.hand_out(time.monotonic())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        self._transport.wake()

    def _stop_if_asked(self) -> None:
        asked = self._signal or (self._parent and os.getppid() != self._parent)
        if asked and not self._stop_requested:
            self._stop_requested = True
            self._handle(inputs.StopRequested())

    def _handle(self, event: inputs.Input) -> None:
        if isinstance(event, inputs.Received) and isinstance(event.message, messages.Question):
            self._ask(event.peer, event.message)
        elif isinstance(event, inputs.Misbehaved) and event.peer not in self._state.workers:
            self._complain(event)
        else:
            now = time.monotonic()
            self._perform(self._state.handle(event, now), now)
        if isinstance(event, inputs.Misbehaved):
            self._offenders.add(event.peer)

    def _ask(self, peer: inputs.Peer, question: messages.Question) -> None:
        try:
            self._checkpoint_server.ask(peer, question, time.monotonic())
        except Exception as error:  # as in the state: it costs the peer
            what = f"handling its {type(question).__name__} failed ({type(error).__name__})"
            self._complain(inputs.Misbehaved(peer, what))
            self._offenders.add(peer)

    def _judged(self, event: inputs.Judged) -> None:
        """The judge's report, from its thread."""
        self._reported.put(event)
        self._transport.wake()

    def _hear(self, report: Report) -> None:
        """Something of the checkpoint writer, the judge or somebody who looks on."""
        if isinstance(report, EventBase):
            self._reporter.tell(report, time.monotonic())
            return
        if isinstance(report, inputs.Saved):
            for event in self._reports.saved(report):
                self._reporter.tell(event, time.monotonic())
            if self._state.closing is not None and report.step == self._state.training.step:
                self._tell_of_checkpoints(last=True)
        self._handle(report)

    def _tell_of_checkpoints(self, last: bool = False) -> None:
        now = time.monotonic()
        for event in self._reports.due(now, last=last):
            self._reporter.tell(event, now)

    def _cut_off(self) -> None:
        """Close on those who broke the protocol, and have heard why by now.

        And on those who asked for a checkpoint and do not take it in.
        """
        for peer in self._offenders.due() | self._checkpoint_server.stuck(time.monotonic()):
            self._transport.cut_off(peer)

    def _complain(self, event: inputs.Misbehaved) -> None:
        """Refuse a stranger who does not speak the protocol, and say so now and then."""
        refusal = messages.Refuse(self._state.run, self._state.epoch, event.reason[:500])
        self._transport.send(event.peer, messages.encode(refusal))
        now = time.monotonic()
        if told := self._complaints.tell(event.reason, now):
            self._reporter.tell(told, now)

    def _perform(self, actions: list[Action], now: float) -> None:
        """Carry out what was decided at ``now``, seconds of the steady clock.

        What workers wait for comes first. The bytes of a step are those sent before it was done.
        """
        sent, received = self._transport.bytes_sent, self._transport.bytes_received
        self._clock.lap("rest")
        for action in actions:
            if isinstance(action, Send):
                data = self._encoder.encode(action.message)
                self._clock.lap("encode")
                self._transport.send(action.peer, data)
                self._clock.lap("send")
        for action in actions:
            if isinstance(action, Send):
                continue
            if isinstance(action, EventBase):
                self._reporter.tell(action, now)
            elif isinstance(action, RecordStep):
                self._reporter.step(action.record, sent, received)
                self._clock.enter(action.record["step"] + 1)
            elif isinstance(action, Save):
                self._save(action)
            elif isinstance(action, Judge):
                self._judge.ask(action)
            else:
                self._finish = action
                self._reporter.record(Finished(Outcome(action.outcome), action.reason), now)

    def _save(self, save: Save) -> None:
        """Keep a state until there is nothing else to do, for the writer and for us."""
        decision = self._saves.keep(save, idle=self._writer.idle, wants=self._writer.wants)
        if decision.now is not None:
            self._submit(decision.now)
        if decision.skipped is not None:
            self._reports.skipped(decision.skipped.state.step, rested=self._writer.resting)

    def _hand_over(self) -> None:
        """Give the writer the newest state, if it may have it."""
        closing = self._state.closing is not None
        if closing:
            self._writer.hurry()
        save = self._saves.due(idle=self._writer.idle, closing=closing)
        if save is not None:
            self._submit(save)

    def _submit(self, save: Save) -> None:
        changed = save.state.learning_rate is not None  # only an event tells since when
        self._record.flush(events=changed or self._state.policy.events.has(Level.ROUNDS))
        skipped = self._writer.submit(save)
        if skipped is not None and skipped != save.state.step:
            self._reports.skipped(skipped, rested=False)
