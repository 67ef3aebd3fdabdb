"""What takes long says how far it is, and need not know who listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType

EVERY_SECONDS = 5.0

_listening: ContextVar[Talk | None] = ContextVar("listening", default=None)


class Talk:
    """Passes on what is said in a ``with`` block of this thread, with the time that it has taken.

    Each ``stage`` goes to ``report`` at once; after that, every ``every`` seconds, the last detail,
    which is told once if it is that we wait for somebody else: that one tells how far it is.
    ``what`` is the first stage, which is worth no words unless it takes so long. ``report`` is
    called from any thread.
    """

    def __init__(
        self, report: Callable[[str], None], what: str, every: float = EVERY_SECONDS
    ) -> None:
        self._report, self._every = report, every
        self.text, self._waits, self._told = what, False, False
        self._began = time.monotonic()
        self._over = threading.Event()
        self._token: Token[Talk | None] | None = None

    def __enter__(self) -> Talk:
        self._token = _listening.set(self)
        threading.Thread(target=self._go_on, name="stages", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._over.set()
        if self._token is not None:
            _listening.reset(self._token)

    def stage(self, text: str) -> None:
        """Something new begins."""
        self.text, self._waits = text, False
        self._report(text)

    def waiting(self, text: str) -> None:
        """Somebody else must be done with something first, which may be soon."""
        self.text, self._waits, self._told = text, True, False

    def _go_on(self) -> None:
        while not self._over.wait(self._every):
            if not (self._waits and self._told):
                self._told = True
                self._report(f"{self.text}, {time.monotonic() - self._began:.0f} s")


def stage(text: str) -> None:
    """Something begins that may take seconds; ``text`` is a few words for people."""
    if talk := _listening.get():
        talk.stage(text)


def waiting(text: str) -> None:
    """Somebody else must be done with something first."""
    if talk := _listening.get():
        talk.waiting(text)


def detail(text: str) -> None:
    """How far it is; often told, seldom shown."""
    if talk := _listening.get():
        talk.text = text


def listened_to() -> bool:
    """Whether it is worth while to find out."""
    return _listening.get() is not None
