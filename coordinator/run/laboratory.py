"""What whoever has started a run as an experiment tells us of it: the conditions that it meets.

The coordinator does not bring them about and makes no difference between a condition and bad luck;
it only puts them on record. The same way comes what somebody who looks on wants (``--control``):
what was done to workers is put on record, too, and the rest is for the core to decide.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from coordinator.core.events import Condition, ConditionChange, Controlled, ControlVerb
from coordinator.core.inputs import Asked, Wish

MOST = 4096  # bytes of a line
ASKED, DONE = "asked", "done"  # the first word of a line about control

News: TypeAlias = Condition | Controlled | Asked


@dataclass(frozen=True)
class Laboratory:
    """``conditions``: flags of ``train.py`` as they were given, such as ``--link latency=20ms``.

    ``news``: a descriptor from which we can read what happens for their sake, a line each:
    ``killed worker-2 --fail mtbf=30s,mttr=5s``, or ``returned ...``, or as ``line_asked`` and
    ``line_done`` write it. None: there is nothing to say.
    """

    conditions: tuple[str, ...] = ()
    news: int | None = None

    def begin(self, report: Callable[[News], None]) -> None:
        """Report the conditions now, and what happens later from a thread of its own."""
        for text in self.conditions:
            report(Condition(ConditionChange.SET, "", text))
        if self.news is not None:
            arguments = self.news, report
            threading.Thread(target=_listen, args=arguments, name="news", daemon=True).start()


def line_of(change: ConditionChange, name: str, text: str) -> bytes:
    """How ``Laboratory.news`` is told of what has happened."""
    return f"{change} {name} {text}".encode(errors="replace")[: MOST - 1] + b"\n"


def line_asked(wish: Wish, by: str, value: float = 0.0) -> bytes:
    """How ``Laboratory.news`` is told of what the core is to decide."""
    return f"{ASKED} {by} {wish} {value!r}\n".encode()


def line_done(verb: ControlVerb, by: str, name: str, factor: float = 1.0) -> bytes:
    """How ``Laboratory.news`` is told of what was done to the worker ``name``."""
    return f"{DONE} {by} {verb} {factor!r} {name}\n".encode()


def read_line(line: bytes) -> News | None:
    """What a line says; None for one that nobody writes."""
    first, *rest = line.decode(errors="replace").strip().split(" ")
    try:
        if first in (ConditionChange.KILLED, ConditionChange.RETURNED) and rest:
            return Condition(ConditionChange(first), rest[0], " ".join(rest[1:]))
        if first == ASKED:
            by, wish, value = rest
            return Asked(Wish(wish), by, _number(value))
        if first == DONE:
            by, verb, factor, name = rest
            return Controlled(by, ControlVerb(verb), name, _number(factor))
    except ValueError:
        return None
    return None


def _number(word: str) -> float:
    """A finite number. Raises ValueError."""
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(word)
    return number


def _listen(descriptor: int, report: Callable[[News], None]) -> None:
    with open(descriptor, "rb", closefd=False) as lines:
        for line in lines:
            if (news := read_line(line)) is not None:
                report(news)
