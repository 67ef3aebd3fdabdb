"""What the coordinator has decided on one event, collected for the shell to perform."""

from __future__ import annotations

from collections import Counter

from coordinator.core.actions import Action, Send
from coordinator.core.event_json import kind_of
from coordinator.core.events import Event, EventBase, LeftOut, Level
from coordinator.core.inputs import Peer
from microgpt.protocol.messages import Message

#: Peers cause events. More of one kind than this in this time (seconds) are counted and not told,
#: so that nobody fills the disk by joining and leaving forever.
MOST_OF_A_KIND, COUNTED_OVER = 500, 10.0


class ActionBuffer:
    """``actions`` since the last ``begin``, in the order in which they are to be performed.

    ``now``: the time of that. ``rounds``, ``full``: whether events of rounds, or of shards and
    steps, too, are wanted, by the ``level``.
    """

    def __init__(self, level: Level = Level.SUMMARY) -> None:
        self.full, self.rounds = level.has(Level.FULL), level.has(Level.ROUNDS)
        self.actions: list[Action] = []
        self.now = 0.0
        self._counts: Counter[type[EventBase]] = Counter()
        self._counting_since = 0.0

    def begin(self, now: float) -> None:
        """Start an empty list."""
        self.actions, self.now = [], now

    def add(self, action: Action) -> None:
        """Perform this, too."""
        self.actions.append(action)

    def send(self, peer: Peer, message: Message) -> None:
        """Send a message."""
        self.actions.append(Send(peer, message))

    def tell(self, event: Event) -> None:
        """Tell of an event, unless peers have caused too many of its kind just now.

        Ask ``full`` or ``rounds`` first where an event is of that level: else it need not be made.
        """
        if not event.bounded or self._may_tell(event):
            self.actions.append(event)

    def _may_tell(self, event: Event) -> bool:
        kind = type(event)
        if self.now - self._counting_since > COUNTED_OVER:
            counts, self._counts = self._counts, Counter()
            self._counting_since = self.now
            for told, number in counts.items():
                if number > MOST_OF_A_KIND:
                    self.actions.append(LeftOut(kind_of(told), number - MOST_OF_A_KIND))
        self._counts[kind] += 1
        return self._counts[kind] <= MOST_OF_A_KIND


def printable(text: str, length: int) -> str:
    """A stranger's text, harmless in a log and on a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[:length])
