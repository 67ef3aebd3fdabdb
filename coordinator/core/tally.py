"""What one worker has done so far, and what has gone over its connection: plain counts."""

from __future__ import annotations

from typing import NamedTuple


class Traffic(NamedTuple):
    """Bytes of the messages that a peer was sent and has sent."""

    sent: int = 0
    received: int = 0


class Tally:
    """What a worker has done since it joined; see ``WorkerPulse``.

    ``waited_until``: the time up to which ``waited`` is counted. ``round_trip``: the least since
    the last pulse, None if there was no answer. ``traffic``: as it was last known.
    """

    __slots__ = (
        "answers", "computing", "documents", "round_trip", "traffic", "waited", "waited_until",
    )  # fmt: skip

    def __init__(self) -> None:
        self.answers = self.documents = 0
        self.computing = self.waited = self.waited_until = 0.0
        self.round_trip: float | None = None
        self.traffic = Traffic()

    def answered(self, documents: int, seconds: float, since: float, now: float) -> None:
        """Work that was given ``since`` is answered, after so many seconds in the engine.

        An engine is not believed to have worked for longer than its worker had something to do.
        """
        self.wait(since, now)
        self.answers += 1
        self.documents += documents
        self.computing += min(seconds, now - since)
        beside = max(0.0, now - since - seconds)
        if self.round_trip is None or beside < self.round_trip:
            self.round_trip = beside

    def wait(self, since: float, now: float) -> None:
        """The worker has had work ``since`` then."""
        self.waited += max(0.0, now - max(since, self.waited_until))
        self.waited_until = now
