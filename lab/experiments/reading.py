"""A table of a TOML file, read key by key: each mistake is told with its line. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from lab.experiments.settings import SETTINGS, Check, shown
from lab.experiments.toml_lines import Path


class ExperimentError(Exception):
    """A file is no experiment; the message is one sentence, with the line where there is one."""


class Source:
    """A file's name and where everything stands in it."""

    def __init__(self, name: str, lines: Mapping[Path, int]) -> None:
        self.name, self._lines = name, lines

    def error(self, path: Path, message: str) -> ExperimentError:
        """What is wrong at a place, or at the nearest one around it that has a line."""
        while path not in self._lines:
            path = path[:-1]
        return ExperimentError(f"{self.name}, line {self._lines[path]}: {message}")


class Table:
    """The table at ``path``; ``take`` each key that may be in it, then call ``close``."""

    def __init__(self, source: Source, path: Path, value: Any) -> None:
        self.source, self.path = source, path
        if not isinstance(value, dict):
            raise source.error(path, f"{name_of(path)} must be a table, not {shown(value)}")
        self._left, self._known = dict(value), list[str]()

    def take(self, key: str, check: Check, default: Any = None, needed: bool = False) -> Any:
        """The value of a key in its type; or ``default``. Raises ExperimentError."""
        self._known.append(key)
        if key not in self._left:
            if needed:
                raise self.error((), f"{key} is missing in {name_of(self.path)}")
            return default
        value = self._left.pop(key)
        try:
            return check(value)
        except ValueError as error:
            raise self.error((key,), f"{key} {error}") from error

    def raw(self, key: str, default: Any) -> Any:
        """The value of a key as it is, for one who looks into it."""
        self._known.append(key)
        return self._left.pop(key, default)

    def close(self, what: str = "key") -> None:
        """Whatever is left is unknown. Raises ExperimentError."""
        for key in self._left:
            raise self.error((key,), unknown(what, key, self._known))

    def error(self, below: Path, message: str) -> ExperimentError:
        """What is wrong at a place in this table."""
        return self.source.error((*self.path, *below), message)


def read_settings(table: Table) -> dict[str, Any]:
    """All settings of a table, and no other keys. Raises ExperimentError."""
    absent = object()
    taken = {name: table.take(name, check, absent) for name, (check, _) in SETTINGS.items()}
    table.close("setting")
    return {name: value for name, value in taken.items() if value is not absent}


def array(source: Source, path: Path, value: Any) -> list[Any]:
    """An array that is not empty. Raises ExperimentError."""
    if not isinstance(value, list) or not value:
        what = f"{name_of(path)} must be an array of one value or more"
        raise source.error(path, f"{what}, not {shown(value)}")
    return value


def items(source: Source, path: Path, value: Any, check: Check) -> list[Any]:
    """The items of an array, each of a type. Raises ExperimentError."""
    found = []
    for place, item in enumerate(array(source, path, value)):
        try:
            found.append(check(item))
        except ValueError as error:
            raise source.error((*path, place), f"{name_of(path)}: a value {error}") from error
    return found


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """There is none of this name; maybe another one was meant."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    return f"there is no {what} {shown(name)}: {hint}"


def name_of(path: Path) -> str:
    """A place as the file has it: ``[matrix.way]``, or ``[[case]]`` for a table of several."""
    keys = ".".join(key for key in path if isinstance(key, str))
    if path and isinstance(path[-1], int):
        return f"[[{keys}]]"
    return f"[{keys}]" if path else "the file"
