"""The way from the page's process to the launcher: a pair of sockets that nobody else has.

A thread reads one line at a time and hands the request to the supervisor; the next one is read when
this one is answered. What is no request is answered here. Nothing that the other end does or leaves
undone holds the supervisor: an answer that it does not take is given up, and the channel with it.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lab.launch.requests import (
    MOST_LINE,
    OF_THE_PAGE,
    PAGE,
    RefusedError,
    Request,
    Verb,
    line_of,
    read_line,
)

ANSWER_SECONDS = 10.0  # for the supervisor, which is soon with anything


@dataclass(frozen=True)
class Asked:
    """A request, whose sender waits for an ``answer``: a sentence, or why it is not done.

    ``by``: who asks, the page or a command.
    """

    request: Request
    answers: queue.SimpleQueue[str | RefusedError]
    by: str = PAGE


@dataclass(frozen=True)
class Gone:
    """The page has ended: nobody can ask for anything any more, nor undo it."""


class Conversation:
    """Answers what is asked through a socket; ``news`` hears ``Asked``, for what is in ``verbs``.

    A socket with a timeout is waited for when it does not take an answer; others are not.
    """

    def __init__(
        self, news: queue.SimpleQueue[Any], end: socket.socket, verbs: Collection[Verb], by: str
    ) -> None:
        self._news, self._end, self._verbs, self._by = news, end, verbs, by

    def hold(self) -> None:
        """Until the other end hangs up, or says what cannot be answered."""
        wrong = contextlib.suppress(OSError, ValueError, RecursionError, queue.Empty)
        with wrong, self._end.makefile("rb") as lines:
            while (line := lines.readline(MOST_LINE)).endswith(b"\n"):
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        """Raises ValueError for a line that cannot even be answered."""
        number, request = read_line(line, self._verbs)
        said: str | RefusedError
        if isinstance(request, RefusedError):
            said = request
        else:
            asked = Asked(request, queue.SimpleQueue(), self._by)
            self._news.put(asked)
            said = asked.answers.get(timeout=ANSWER_SECONDS)
        refused = isinstance(said, RefusedError)
        told = {"error": str(said)} if refused else {"text": said}
        self._send(line_of({"id": number, "ok": not refused, **told}))

    def _send(self, line: bytes) -> None:
        if self._end.gettimeout() is not None:
            self._end.sendall(line)
        elif self._end.send(line, socket.MSG_DONTWAIT) != len(line):
            raise BlockingIOError("the other end does not read what it is told")


class Channel:
    """``news`` hears ``Asked`` and ``Gone``. The process that has ``theirs`` may ask."""

    def __init__(self, news: queue.SimpleQueue[Any]) -> None:
        self._news = news
        self._ours, self.theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)

    def begin(self) -> None:
        """Somebody else has ``theirs`` now: close it here, and listen."""
        self.theirs.close()
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join()
        self.theirs.close()
        self._ours.close()

    def _listen(self) -> None:
        Conversation(self._news, self._ours, OF_THE_PAGE, PAGE).hold()
        self._news.put(Gone())
