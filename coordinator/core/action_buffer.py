"""What the coordinator has decided on one event, collected for the shell to perform."""

from __future__ import annotations

from typing import Any

from coordinator.core.actions import Action, Note, Send
from coordinator.core.inputs import Peer
from microgpt.protocol.messages import Message

#: Peers cause notes. More of one kind than this in this time (seconds) are counted and not kept,
#: so that nobody fills the disk by joining and leaving forever.
NOTES, NOTES_OVER = 500, 10.0


class ActionBuffer:
    """``actions`` since the last ``begin``, in the order in which they are to be performed."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self._now = 0.0
        self._counts: dict[str, int] = {}
        self._counting_since = 0.0

    def begin(self, now: float) -> None:
        """Start an empty list."""
        self.actions, self._now = [], now

    def add(self, action: Action) -> None:
        """Perform this, too."""
        self.actions.append(action)

    def send(self, peer: Peer, message: Message) -> None:
        """Send a message."""
        self.actions.append(Send(peer, message))

    def note(self, kind: str, text: str, *, warning: bool = False, **details: Any) -> None:
        """Write a line, unless there have been too many of its kind just now."""
        if self._now - self._counting_since > NOTES_OVER:
            left_out = {k: n - NOTES for k, n in self._counts.items() if n > NOTES}
            self._counts, self._counting_since = {}, self._now
            if left_out:
                told = ", ".join(f"{number} of kind {k}" for k, number in left_out.items())
                self.actions.append(Note("left_out", f"lines left out: {told}", left_out, True))
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count <= NOTES:
            self.actions.append(Note(kind, text, details, warning))


def printable(text: str, length: int) -> str:
    """A stranger's text, harmless in a log and on a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[:length])
