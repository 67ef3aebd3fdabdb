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
from dataclasses import dataclass
from typing import Any

from lab.launch.requests import MOST_LINE, RefusedError, Request, line_of, read_line

ANSWER_SECONDS = 10.0  # for the supervisor, which is soon with anything


@dataclass(frozen=True)
class Asked:
    """A request of the page, which waits for an ``answer``: a sentence, or why it is not done."""

    request: Request
    answers: queue.SimpleQueue[str | RefusedError]


@dataclass(frozen=True)
class Gone:
    """The page has ended: nobody can ask for anything any more, nor undo it."""


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
        wrong = contextlib.suppress(OSError, ValueError, RecursionError, queue.Empty)
        with wrong, self._ours.makefile("rb") as lines:
            while (line := lines.readline(MOST_LINE)).endswith(b"\n"):
                self._answer(line)
        self._news.put(Gone())

    def _answer(self, line: bytes) -> None:
        """Raises ValueError for a line that cannot even be answered."""
        number, request = read_line(line)
        said: str | RefusedError
        if isinstance(request, RefusedError):
            said = request
        else:
            asked = Asked(request, queue.SimpleQueue())
            self._news.put(asked)
            said = asked.answers.get(timeout=ANSWER_SECONDS)
        refused = isinstance(said, RefusedError)
        told = {"error": str(said)} if refused else {"text": said}
        self._send(line_of({"id": number, "ok": not refused, **told}))

    def _send(self, line: bytes) -> None:
        if self._ours.send(line, socket.MSG_DONTWAIT) != len(line):
            raise BlockingIOError("the page does not read what it is told")
