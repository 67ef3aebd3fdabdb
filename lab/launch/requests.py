"""What the page and commands may ask of the supervisor, line by line: pure, and strict.

``{"id": 7, "verb": "slow", "worker": "worker-2", "value": 4}``; the answer is
``{"id": 7, "ok": true, "text": SENTENCE}``, or ``{"id": 7, "ok": false, "error": SENTENCE}``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_LINE = 4096  # bytes
MOST_NAME = 200
MOST_RATE = 1000.0
MOST_FACTOR = 100.0
MOST_WORKERS = 4096  # the connections that a coordinator takes


class Verb(StrEnum):
    """What can be asked for."""

    PAUSE = "pause"
    RESUME = "resume"
    SAVE = "save"
    LEARNING_RATE = "learning_rate"
    ADD = "add"
    KILL = "kill"
    FREEZE = "freeze"
    THAW = "thaw"
    SLOW = "slow"
    REMOVE = "remove"
    CUT = "cut"
    RESTORE = "restore"
    LIST = "list"
    SCALE = "scale"
    STOP = "stop"


PAGE, COMMAND = "page", "command"  # who may ask
OF_A_COMMAND = frozenset((Verb.LIST, Verb.SCALE, Verb.STOP))
OF_THE_PAGE = frozenset(Verb) - OF_A_COMMAND
OF_A_WORKER = frozenset(
    (Verb.KILL, Verb.FREEZE, Verb.THAW, Verb.SLOW, Verb.REMOVE, Verb.CUT, Verb.RESTORE)
)
#: What the value of a verb is called, the least and the most of it.
VALUES = {
    Verb.SLOW: ("factor", 1.0, MOST_FACTOR),
    Verb.LEARNING_RATE: ("learning rate", 0.0, MOST_RATE),
    Verb.SCALE: ("number of workers", 1.0, float(MOST_WORKERS)),
}


class RefusedError(Exception):
    """It cannot be done; the message is one sentence."""


@dataclass(frozen=True)
class Request:
    """``worker``: the name of the worker that ``verb`` is done to, "" for the run."""

    verb: Verb
    worker: str = ""
    value: float = 0.0


def read_request(plain: Any, verbs: Collection[Verb] = OF_THE_PAGE) -> Request:
    """The request in a JSON object without its ``id``: one of ``verbs``. Raises RefusedError."""
    if not isinstance(plain, dict):
        raise RefusedError("a request is a JSON object")
    if odd := sorted(map(str, plain.keys() - {"verb", "worker", "value"})):
        raise RefusedError(f"a request has no {odd[0][:40]!r}")
    word = plain.get("verb")
    known = [verb for verb in Verb if verb in verbs]
    if not isinstance(word, str) or word not in known:
        raise RefusedError(f"there is no verb {str(word)[:40]!r}: there are {', '.join(known)}")
    verb = Verb(word)
    worker, value = plain.get("worker"), plain.get("value")
    if (worker is not None) != (verb in OF_A_WORKER):
        raise RefusedError(f"{verb} is done {'to a worker' if worker is None else 'to the run'}")
    if worker is not None and not (isinstance(worker, str) and 0 < len(worker) <= MOST_NAME):
        raise RefusedError("a worker is called by its name")
    return Request(verb, worker or "", _value(verb, value))


def _value(verb: Verb, value: Any) -> float:
    if verb not in VALUES:
        if value is not None:
            raise RefusedError(f"{verb} has no value")
        return 0.0
    name, least, most = VALUES[verb]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        raise RefusedError(f"the {name} is a number from {least:g} to {most:g}")
    return float(value)


def read_line(
    line: bytes, verbs: Collection[Verb] = OF_THE_PAGE
) -> tuple[int, Request | RefusedError]:
    """The ``id`` of a line, and its request or why it is none. Raises ValueError without an id."""
    plain = json.loads(line)
    number = plain.pop("id", None) if isinstance(plain, dict) else None
    if type(number) is not int or not 0 <= number < 1 << 53:
        raise ValueError("a line has an id")
    try:
        return number, read_request(plain, verbs)
    except RefusedError as error:
        return number, error


def line_of(plain: dict[str, Any]) -> bytes:
    """One line of JSON."""
    return json.dumps(plain, allow_nan=False).encode() + b"\n"
