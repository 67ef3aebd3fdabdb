"""The one written form of events: a line of JSON for each, and back again. Strict both ways.

``{"kind": "joined", "time": 1764277000.123456, "step": 12, "worker": 1, ...}``: the name of the
class in small letters, when it happened, and the fields of the class, all of them and no others.
Each epoch begins with ``Started``, whose ``schema`` says how its lines are to be read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any, cast, get_type_hints

from coordinator.core.events import (
    EVENTS,
    SCHEMA,
    Controlled,
    ControlRefused,
    Event,
    EventBase,
    Joined,
    LearningRateChanged,
    NumbersFailed,
    Paused,
    Recorded,
    Resumed,
    RoundClosed,
    RoundOpened,
    Started,
    StrategyNumbers,
    TensorNorms,
    WorkerPulse,
)

#: What is written before the fields of every event.
ENVELOPE = ("kind", "time", "step")
MOST_TIME = 1e11  # seconds since 1970, which clocks and calendars can show
MOST_WHOLE = 1 << 63  # a whole number is smaller


class EventError(Exception):
    """A text is no event of a version that is known here; the message is one line."""


def kind_of(event: EventBase | type[EventBase]) -> str:
    """The name of an event's kind, as it is written: ``round_opened`` of ``RoundOpened``."""
    return _NAMES[event if isinstance(event, type) else type(event)]


def to_json(recorded: Recorded) -> str:
    """One line of JSON, without its end."""
    return _form(type(recorded.event)).write(recorded)


def from_json(line: str | bytes, schema: int = SCHEMA) -> Recorded:
    """The event that a line tells of, in the form of version ``schema``. Raises EventError."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EventError(f"it is no JSON: {error}") from error
    if not isinstance(plain, dict):
        raise EventError("it is no JSON object")
    kind = plain.pop("kind", None)
    event_type = _KINDS.get(kind) if isinstance(kind, str) else None
    if event_type is None:
        raise EventError(f"there is no kind of event {kind!r}")
    if event_type is Started:
        schema = _check_schema(plain.get("schema"))
    for added, names in _ADDED.items():
        if schema < added:
            if event_type in _NEW.get(added, ()):
                raise EventError(f"version {schema} of the events' form has no kind {kind!r}")
            _require_absent(plain, kind, names.get(event_type, {}))
            plain |= names.get(event_type, {})
    return _form(event_type).read(plain)


def _require_absent(plain: dict[str, Any], kind: object, later: Mapping[str, Any]) -> None:
    if odd := sorted(plain.keys() & later.keys()):
        raise EventError(f"{kind} has a field that its version does not know: {', '.join(odd)}")


def _check_schema(schema: object) -> int:
    if type(schema) is not int or schema < 1:
        raise EventError(f"{schema!r} is no version of the events' form")
    if schema > SCHEMA:
        raise EventError(
            f"it is of version {schema} of the events' form, and this program knows version "
            f"{SCHEMA}: use a newer one"
        )
    return schema


class _Form:
    """How one kind of event is written and read."""

    def __init__(self, event_type: type[EventBase]) -> None:
        self.type = event_type
        self.kind = _NAMES[event_type]
        hints = get_type_hints(event_type)
        self._fields = {field.name: hints[field.name] for field in fields(event_type)}
        # A template: making a dict for ``json.dumps`` takes four times as long.
        parts = [f'"kind": "{self.kind}", "time": %.6f, "step": %d']
        parts += [f'"{name}": {_PLACES.get(kind, "%s")}' for name, kind in self._fields.items()]
        self._template = "{" + ", ".join(parts) + "}"
        self._encoders = [
            (place, _encoder(kind))
            for place, kind in enumerate(self._fields.values())
            if kind not in _PLACES
        ]
        names = list(self._fields)
        # Two names at least make a tuple of what is got.
        self._values = attrgetter("__class__", "__class__", *names)

    def write(self, recorded: Recorded) -> str:
        values = [*self._values(recorded.event)[2:]]
        for place, encode in self._encoders:
            values[place] = encode(values[place])
        return self._template % (recorded.time, recorded.step, *values)

    def read(self, plain: dict[str, Any]) -> Recorded:
        named = {"time": float, "step": int, **self._fields}
        if plain.keys() != named.keys():
            odd = sorted(plain.keys() ^ named.keys())
            raise EventError(f"{self.kind} has other fields than it should: {', '.join(odd)}")
        values = {name: self._value(name, kind, plain[name]) for name, kind in named.items()}
        time, step = values.pop("time"), values.pop("step")
        if not 0.0 <= time < MOST_TIME:
            raise EventError(f"{self.kind}: {time!r} is no time")
        return Recorded(time, step, cast(Event, self.type(**values)))

    def _value(self, name: str, kind: Any, value: object) -> Any:
        """A field's value from that of JSON. Raises EventError."""
        if kind in _READERS:
            if _READERS[kind](value):
                return tuple(value) if isinstance(value, list) else value
        elif issubclass(kind, StrEnum) and value in [*kind]:
            return kind(value)
        raise EventError(f"{self.kind}: {json.dumps(value)[:100]} is no {name}")


def _has(kind: type) -> Callable[[object], bool]:
    """Whether a value is of just this type.

    Integers are not negative and have at most 63 bits, numbers are finite, text can be encoded.
    """
    if kind is int:
        return lambda value: type(value) is int and 0 <= value < MOST_WHOLE
    if kind is float:
        return lambda value: type(value) is float and math.isfinite(value)
    if kind is str:
        return _is_text
    return lambda value: type(value) is kind


def _is_text(value: object) -> bool:
    """Half a surrogate pair is a text for JSON, and for nobody who writes it somewhere."""
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _list_of(kind: type, length: int | None = None) -> Callable[[object], bool]:
    fits = _has(kind)
    return lambda value: (
        isinstance(value, list) and length in (None, len(value)) and all(map(fits, value))
    )


def _dict_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict) and all(map(fits, value.values())) and all(map(_is_text, value))
    )


def _form(event_type: type[EventBase]) -> _Form:
    """That of a kind, made when it is first needed: a run has few of the kinds."""
    form = _FORMS.get(event_type)
    if form is None:
        form = _FORMS[event_type] = _Form(event_type)
    return form


def _text(value: str) -> str:
    """As JSON. Bytes of a folder's name that are no UTF-8 are spelled out, for who reads it."""
    if not value.isascii():
        value = value.encode(errors="backslashreplace").decode()
    return encode_basestring(value)


def _encoder(kind: Any) -> Callable[[Any], str]:
    if kind is bool:
        return lambda value: "true" if value else "false"
    if isinstance(kind, type) and issubclass(kind, str):
        return _text
    return lambda value: json.dumps(value, ensure_ascii=False)


#: What kinds have since a version of the form, and what it is where an earlier one was written.
_ADDED: dict[int, dict[type[EventBase], dict[str, Any]]] = {
    2: {
        Started: {"next_document": 0},
        RoundOpened: {"replicas": [], "local_steps": 0, "elastic": 0.0},
        RoundClosed: {"cut": [], "counted": [], "workers": 0},
    },
    3: {Joined: {"host": ""}},
}
#: Kinds that there are since a version of the form.
_NEW: dict[int, tuple[type[EventBase], ...]] = {
    3: (
        WorkerPulse, TensorNorms, StrategyNumbers, NumbersFailed, Controlled, ControlRefused,
        Paused, Resumed, LearningRateChanged,
    )
}  # fmt: skip
#: Whether a value of JSON can be one of a field's type; lists become tuples.
_READERS: dict[Any, Callable[[object], bool]] = {
    **{kind: _has(kind) for kind in (bool, int, float, str)},
    tuple[int, ...]: _list_of(int),
    tuple[float, ...]: _list_of(float),
    tuple[str, ...]: _list_of(str),
    tuple[str, str]: _list_of(str, 2),
    Mapping[str, float]: _dict_of(_has(float)),
    Mapping[str, Mapping[str, int]]: _dict_of(_dict_of(_has(int))),
}
#: How numbers stand in a template.
_PLACES = {int: "%d", float: "%r"}
_FORMS: dict[type[EventBase], _Form] = {}
_NAMES: dict[type[EventBase], str] = {
    event_type: re.sub(r"(?<!^)(?=[A-Z])", "_", event_type.__name__).lower()
    for event_type in EVENTS
}
_KINDS = {name: event_type for event_type, name in _NAMES.items()}
