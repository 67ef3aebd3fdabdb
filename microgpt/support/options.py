"""Things that are chosen by a name and options: ``NAME``, ``NAME:VALUE`` or ``NAME:KEY=VALUE,...``.

Strategies, optimizers, aggregation rules and compressors are dataclasses whose fields are their
options. Here their texts are read, checked against the fields and written again; each kind has its
own table of classes and its own error, whose message is one sentence for who typed the text.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from microgpt.support.user_class import class_in_file, line_of

T = TypeVar("T")

#: The key of a value that is given without one: it is meant for the first option.
FIRST = ""

_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
_WANTS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """The name and the options of ``NAME[:VALUE]`` or ``NAME[:KEY=VALUE,...]``.

    The name may be ``FILE.py:Class``; a value without a key has the key ``FIRST``. Raises
    ValueError, whose message is one sentence, for any other form.
    """
    before_class = text.find(".py:") + len(".py:") if ".py:" in text else 0
    name, colon, given = text[before_class:].partition(":")
    if not name or (colon and not given):
        raise ValueError(f"{text!r} is not of the form NAME, NAME:VALUE or NAME:KEY=VALUE,...")
    parts = given.split(",") if given else []
    name = text[:before_class] + name
    if len(parts) == 1 and "=" not in given:
        return name, {FIRST: given}
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{part!r} in {text!r} is not of the form KEY=VALUE")
        if key in options:
            raise ValueError(f"{text!r} gives {key} twice")
        options[key] = value
    return name, options


def make(
    label: str,
    classes: Mapping[str, type[T]],
    spec: str,
    error: type[Exception],
    methods: Sequence[str] = (),
) -> T:
    """What ``spec`` (see ``parse_spec``) names, with its options; see ``make_with``."""
    try:
        name, options = parse_spec(spec)
    except ValueError as wrong:
        raise error(f"{label} {wrong}") from wrong
    return make_with(label, classes, name, options, error, methods)


def make_with(
    label: str,
    classes: Mapping[str, type[T]],
    name: str,
    options: Mapping[str, Any],
    error: type[Exception],
    methods: Sequence[str] = (),
) -> T:
    """An instance of the class ``name`` in ``classes``, or of ``FILE.py:Class``, with ``options``.

    ``label`` is the word for the kind of thing (``"optimizer"``), ``methods`` are the names that
    an instance must have. Options are texts as a command line has them, or values of their fields'
    types. A user's file is run as the program that it is. Raises ``error`` with one sentence.
    """
    kind: type[Any] | None = classes.get(name)
    if ":" in name:
        kind = class_in_file(label, name, error)
    if kind is None:
        hint = _near(name, classes, "there are")
        raise error(f"there is no {label} {name!r}: {hint} (or FILE.py:Class)")
    if not dataclasses.is_dataclass(kind):
        raise error(f"{label} {name}: its class must be a dataclass (@dataclass)")
    values: dict[str, Any] = {}
    for key, given in options.items():
        field, value = _option(f"{label} {name}", kind, key, given, error)
        values[field] = value
    making: Any = kind  # is_dataclass takes the T from it
    try:
        made: T = making(**values)
    except (TypeError, ValueError) as wrong:
        raise error(f"{label} {name}: {wrong}") from wrong
    except Exception as wrong:  # whatever a user's own checks raise
        text = f"{type(wrong).__name__}: {wrong}{line_of(wrong, kind.__module__)}"
        raise error(f"{label} {name}: {text}") from wrong
    for method in methods:
        if not hasattr(kind, method) and not hasattr(made, method):
            raise error(f"{label} {name} has no {method!r}")
    return made


def options_of(instance: object) -> dict[str, Any]:
    """All options of a dataclass's instance with their values, in the order of its fields."""
    return {key: getattr(instance, key) for key in _names(type(instance))}


def name_of(classes: Mapping[str, type[Any]], instance: object) -> str:
    """The name by which ``make`` finds the class again, in whichever folder it is called.

    A class that stands in no file (but in a notebook's cell, say) will not be found.
    """
    kind = type(instance)
    for name, known in classes.items():
        if kind is known:
            return name
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"{Path(file).resolve() if file else kind.__module__}:{kind.__qualname__}"


def describe(classes: Mapping[str, type[Any]], instance: object) -> str:
    """The one full text of an instance, from which ``make`` makes an equal one again.

    All options are named in the order of the fields: ``"nesterov:learning_rate=0.7,momentum=0.9"``.
    Raises ValueError for a text with a comma, which such a text cannot hold.
    """
    options = [f"{key}={_text(value)}" for key, value in options_of(instance).items()]
    return ":".join([name_of(classes, instance), *([",".join(options)] if options else [])])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if "," in str(value):
        raise ValueError(f"the text {value!r} has a comma in it")
    return str(value)  # of a float: the shortest text that gives the same bits again


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def _option(
    who: str, kind: type[Any], key: str, given: Any, error: type[Exception]
) -> tuple[str, Any]:
    """The name of an option's field, and its value in the type of that field."""
    names = _names(kind)
    key = names[0] if key == FIRST and names else key
    if key not in names:
        hint = _near(key, names, "its options are") if names else "it has no options"
        raise error(f"{who} has no option {key or given!r}: {hint}")
    try:
        wanted = get_type_hints(kind)[key]
    except (NameError, TypeError) as wrong:
        raise error(f"{who}: the types of its options cannot be read: {wrong}") from wrong
    if type(given) is wanted:
        return key, given
    try:
        if wanted is bool:
            return key, _BOOLEANS[str(given).lower()]
        if wanted in (float, str) or (wanted is int and isinstance(given, str | int)):
            return key, wanted(given)
    except (ValueError, KeyError, TypeError, OverflowError):
        pass
    wants = _WANTS.get(wanted, getattr(wanted, "__name__", wanted))
    raise error(f"{who}: option {key} wants {wants}, not {given!r}")


def _near(name: str, known: Mapping[str, Any] | Sequence[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"{otherwise} {', '.join(known)}"
