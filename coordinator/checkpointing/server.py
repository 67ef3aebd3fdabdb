"""Serves checkpoints while training goes on: the disk is read on a thread of its own.

Whoever can connect may ask. So the number of questions that wait, and of replies that have not been
taken in, is limited: beyond that the answer is "busy". The thread rests between questions, so that
however many there are it takes a part of the time only.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass

import zmq

from coordinator.checkpointing.index import CheckpointIndex
from coordinator.core.inputs import Peer
from coordinator.net.router import Transport
from microgpt.protocol import messages
from microgpt.protocol.messages import NoCheckpoint, Question

#: Questions in work, and replies of at most a part of a file each that are still in our memory.
SLOTS = 32
QUESTIONS_OF_ONE = 4  # in work; an honest asker waits for a reply before it goes on
WATCHED_SECONDS = 3.0  # since the last question: somebody looks on
STUCK_SECONDS = 15.0  # for an asker to take in a reply; then it is cut off
RESTS = 9.0  # the thread rests for so many times the CPU time that a reply has taken


@dataclass(frozen=True)
class Untaken:
    """A reply that has been sent, but not left our memory when last looked at."""

    peer: Peer
    tracker: zmq.MessageTracker
    since: float


class CheckpointServer:
    """Answers questions about the checkpoints of ``checkpoint_index`` over ``transport``.

    All methods but ``saved`` belong to the thread that uses the transport.
    """

    def __init__(self, checkpoint_index: CheckpointIndex, transport: Transport) -> None:
        self._index, self._transport = checkpoint_index, transport
        self._asked: set[tuple[Peer, int]] = set()
        self._in_work: Counter[Peer] = Counter()  # how many of them
        self._untaken: list[Untaken] = []
        self._questions: queue.SimpleQueue[tuple[Peer, Question] | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[tuple[Peer, int, bytes]] = queue.SimpleQueue()
        self._last_asked = -WATCHED_SECONDS
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checkpoint server", daemon=True)
        self._thread.start()

    def saved(self, step: int) -> None:
        """The checkpoint of a step has been written. May be called from any thread."""
        self._index.newest = step

    def ask(self, peer: Peer, question: Question, now: float) -> None:
        """Answer this soon, or say now that there is too much to do.

        What somebody asks again out of impatience, or too much at once, is not answered at all.
        """
        self._last_asked = now
        asked = peer, question.number
        if asked in self._asked or self._in_work[peer] >= QUESTIONS_OF_ONE:
            return
        if len(self._asked) + len(self._untaken) >= SLOTS:
            busy = NoCheckpoint("", "", question.number, "the coordinator is busy", again=True)
            self._transport.send(peer, messages.encode(busy))
            return
        self._in_work[peer] += 1
        self._asked.add(asked)
        self._questions.put((peer, question))

    def hand_out(self, now: float) -> None:
        """Send what is ready, and see what has been taken in."""
        while not self._replies.empty():
            peer, number, data = self._replies.get()
            self._asked.discard((peer, number))
            self._in_work[peer] -= 1
            if not self._in_work[peer]:
                del self._in_work[peer]
            tracker = self._transport.send_tracked(peer, data)
            if tracker is not None:
                self._untaken.append(Untaken(peer, tracker, now))
        self._untaken = [reply for reply in self._untaken if not reply.tracker.done]

    def stuck(self, now: float) -> set[Peer]:
        """Who has not taken in a reply for so long that it should be cut off."""
        return {reply.peer for reply in self._untaken if now - reply.since > STUCK_SECONDS}

    def watched(self, now: float) -> bool:
        """Whether somebody has asked lately, and will ask for the last checkpoint, too."""
        return now - self._last_asked < WATCHED_SECONDS

    def close(self, timeout: float) -> None:
        """End the thread, which may hang with the disk, within so many seconds."""
        self._closed.set()
        self._questions.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        while (asked := self._questions.get()) is not None:
            peer, question = asked
            began = time.thread_time()
            data = messages.encode(self._index.reply(question))
            if self._closed.is_set():
                return
            self._replies.put((peer, question.number, data))
            self._transport.wake()
            self._closed.wait(RESTS * (time.thread_time() - began))
