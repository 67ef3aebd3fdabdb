"""What whoever has started a run as an experiment tells us of it: the conditions that it meets.

The coordinator does not bring them about and makes no difference between a condition and bad luck;
it only puts them on record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.core.events import Condition, ConditionChange

MOST = 4096  # bytes of a line


@dataclass(frozen=True)
class Laboratory:
    """``conditions``: flags of ``train.py`` as they were given, such as ``--link latency=20ms``.

    ``news``: a descriptor from which we can read what happens for their sake, a line each:
    ``killed worker-2 --fail mtbf=30s,mttr=5s``, or ``returned ...``. None: there is nothing to say.
    """

    conditions: tuple[str, ...] = ()
    news: int | None = None

    def begin(self, report: Callable[[Condition], None]) -> None:
        """Report the conditions now, and what happens later from a thread of its own."""
        for text in self.conditions:
            report(Condition(ConditionChange.SET, "", text))
        if self.news is not None:
            arguments = self.news, report
            threading.Thread(target=_listen, args=arguments, name="news", daemon=True).start()


def line_of(change: ConditionChange, name: str, text: str) -> bytes:
    """How ``Laboratory.news`` is told of what has happened."""
    return f"{change} {name} {text}".encode(errors="replace")[: MOST - 1] + b"\n"


def _listen(descriptor: int, report: Callable[[Condition], None]) -> None:
    with open(descriptor, "rb", closefd=False) as news:
        for line in news:
            change, _, rest = line.decode(errors="replace").strip().partition(" ")
            name, _, text = rest.partition(" ")
            if change in (ConditionChange.KILLED, ConditionChange.RETURNED):
                report(Condition(ConditionChange(change), name, text))
