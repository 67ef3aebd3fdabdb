"""Conditions as flags: ``--link latency=20ms,loss=0.1%``, ``--slow worker=2:3x`` and so on.

Pure. Each text may begin with ``worker=N:``; without, it is for every worker. What is said of one
worker takes the place of what is said of all, flag by flag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from lab.conditions import Conditions, Failures, Link, Machine, OnFailure, WorkerConditions
from microgpt.replicas.lies import KINDS

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
BYTES_PER_SECOND = {"bit": 1 / 8, "kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8}
MAX_LATENCY = 10.0  # seconds
MAX_LOSS = 0.5
MAX_SLOWNESS = 1000.0
LEAST_RATE = 125.0  # bytes per second: one kbit
MAX_TIME = 604_800.0  # a week
MAX_SHOWN = 60  # letters of a wrong text

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z%]*)", re.ASCII)

#: What a flag says of a worker: a field of ``WorkerConditions`` and its value.
Said: TypeAlias = tuple[str, Any]


class ConditionError(ValueError):
    """A text is no condition; the message is one line that names flag, text and what is wrong."""


def read_conditions(
    workers: int,
    *,
    link: Sequence[str] = (),
    slow: Sequence[str] = (),
    fail: Sequence[str] = (),
    byzantine: Sequence[str] = (),
) -> Conditions:
    """The conditions that these flags describe, in a run of ``workers``. Raises ConditionError."""
    flags = (
        ("--link", link, _link),
        ("--slow", slow, _slow),
        ("--fail", fail, _fail),
        ("--byzantine", byzantine, _byzantine),
    )
    texts: list[str] = []
    of_all = WorkerConditions()
    of_some: dict[int, dict[str, Any]] = {}
    for flag, given, read in flags:
        general = False
        for text in given:
            texts.append(f"{flag} {text}")
            try:
                number, (field, value) = _one(text, workers, read)
                if general if number is None else field in of_some.get(number, {}):
                    raise ConditionError(f"worker {number or '...'} has another one already")
            except ConditionError as error:
                raise ConditionError(f"{flag} {_shown(text)}: {error}") from None
            if number is None:
                general = True
                of_all = replace(of_all, **{field: value})
            else:
                of_some.setdefault(number, {})[field] = value
    some = {number: replace(of_all, **said) for number, said in sorted(of_some.items())}
    return Conditions(tuple(texts), of_all, some)


def with_policy(conditions: Conditions, on_failure: str) -> Conditions:
    """The conditions with what is done about failures. Raises ConditionError."""
    try:
        policy = OnFailure(on_failure)
    except ValueError:
        known = ", ".join(OnFailure)
        raise ConditionError(f"--on-failure {_shown(on_failure)}: there are {known}") from None
    told = () if policy is OnFailure.REPLACE else (f"--on-failure {policy}",)
    return replace(conditions, texts=(*conditions.texts, *told), on_failure=policy)


def _one(text: str, workers: int, read: Callable[[str], Said]) -> tuple[int | None, Said]:
    """Which worker a text is about, None for all, and what it says."""
    if not text.startswith("worker="):
        return None, read(text)
    name, colon, rest = text.removeprefix("worker=").partition(":")
    if not colon:
        raise ConditionError(f"after worker={_shown(name)} there must be a colon and a condition")
    if not (name.isascii() and name.isdigit()) or not 1 <= int(name[:9]) <= workers:
        raise ConditionError(f"there is no worker {_shown(name)}: they are numbered 1 to {workers}")
    return int(name), read(rest)


def _link(text: str) -> Said:
    known: dict[str, Callable[[str], float]] = {
        "latency": lambda value: _time(value, MAX_LATENCY),
        "jitter": lambda value: _time(value, MAX_LATENCY),
        "bandwidth": _rate,
        "loss": _share,
    }
    given = _entries(text, known)
    latency, jitter = given.get("latency", 0.0), given.get("jitter", 0.0)
    if jitter > latency:
        raise ConditionError("jitter is more than latency, so that bytes would arrive too early")
    return "link", Link(
        delay=latency, jitter=jitter, rate=given.get("bandwidth"), loss=given.get("loss", 0.0)
    )


def _slow(text: str) -> Said:
    number, unit = _number(text)
    if unit not in ("", "x") or not 1.0 <= number <= MAX_SLOWNESS:
        raise ConditionError(f"write how many times as long it takes: 1x to {MAX_SLOWNESS:g}x")
    return "machine", Machine(slowness=number)


def _fail(text: str) -> Said:
    times = {name: lambda value: _time(value, MAX_TIME) for name in ("mtbf", "mttr")}
    given = _entries(text, times)
    for name in times:
        if name not in given:
            raise ConditionError(f"{name} is missing: write mtbf=30s,mttr=5s")
    if given["mtbf"] < 0.1:
        raise ConditionError("mtbf is too short for any work: at least 100ms")
    return "failures", Failures(given["mtbf"], given["mttr"])


def _byzantine(text: str) -> Said:
    if text not in KINDS:
        raise ConditionError(f"there is no lie {_shown(text)}: there are {', '.join(KINDS)}")
    return "lie", text


def _entries(text: str, known: Mapping[str, Callable[[str], float]]) -> dict[str, float]:
    """``key=value,key=value``, each key one of the known, and once."""
    given: dict[str, float] = {}
    for entry in text.split(","):
        key, equals, value = entry.partition("=")
        if not equals or key not in known:
            raise ConditionError(f"{_shown(entry)} is none of {'=, '.join(known)}=")
        if key in given:
            raise ConditionError(f"{key} is given twice")
        given[key] = known[key](value)
    return given


def _number(text: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > MAX_SHOWN:
        raise ConditionError(f"{_shown(text)} is no number with a unit")
    return float(match[1]), match[2].lower()


def _time(text: str, most: float) -> float:
    number, unit = _number(text)
    if unit not in SECONDS:
        raise ConditionError(f"{_shown(text)} is no time: write 200us, 20ms, 1.5s or 2m")
    if number * SECONDS[unit] > most:
        raise ConditionError(f"{text} is too long: at most {most:g}s")
    return number * SECONDS[unit]


def _rate(text: str) -> float:
    number, unit = _number(text)
    if unit not in BYTES_PER_SECOND or number * BYTES_PER_SECOND[unit] < LEAST_RATE:
        raise ConditionError(
            f"{_shown(text)} is no bandwidth: write 56kbit, 10Mbit or 1Gbit (a second)"
        )
    return number * BYTES_PER_SECOND[unit]


def _share(text: str) -> float:
    number, unit = _number(text)
    share = number / 100 if unit == "%" else number
    if unit not in ("", "%") or share > MAX_LOSS:
        raise ConditionError(f"{_shown(text)} is no loss: write 0.1% or 0.001, at most 50%")
    return share


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
