"""In which line of a TOML text each key and each value stands, which ``tomllib`` does not tell.

Pure. The text must be valid: ``tomllib`` has read it before. The grammar is that of TOML 1.0
(https://toml.io/en/v1.0.0); values are passed over and not read.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TypeAlias

#: Keys of tables and places in arrays, from the outside to the inside.
Path: TypeAlias = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}\n#]*")


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of each key and each item of an array. ``()`` is line 1."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._found: dict[Path, int] = {(): 1}
        self._tables: dict[Path, int] = {}  # arrays of tables, and how many each has so far

    def scan(self) -> dict[Path, int]:
        """Pass over the whole text."""
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> Path:
        """``[name]`` or ``[[name]]``: the table whose pairs follow."""
        line = self._line
        several = self._text.startswith("[[", self._at)
        self._at += 2 if several else 1
        keys, path = self._keys(), ()  # type: tuple[Path, Path]
        for place, key in enumerate(keys):
            path = (*path, key)
            self._found.setdefault(path, line)
            if several and place == len(keys) - 1:
                self._tables[path] = self._tables.get(path, 0) + 1
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
                self._found.setdefault(path, line)
        self._at += 2 if several else 1
        return path

    def _pair(self, table: Path) -> None:
        """``key = value``."""
        line, path = self._line, table
        for key in self._keys():
            path = (*path, key)
            self._found.setdefault(path, line)
        self._at += 1  # the sign
        self._value(path)

    def _keys(self) -> Path:
        """``a.b."c"``."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            raw = self._skip(_KEY)
            keys.append(tomllib.loads(f"x = {raw}")["x"] if raw[0] in "\"'" else raw)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(keys)
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        start = self._text[self._at]
        if start in "\"'":
            self._skip(_STRING)
        elif start in "[{":
            self._items(path, start == "[")
        else:
            self._skip(_BARE)

    def _items(self, path: Path, array: bool) -> None:
        """What is between brackets, or braces."""
        self._at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] in "]}":
                self._at += 1
                return
            if array:
                self._found[(*path, number)] = self._line
                self._value((*path, number))
            else:
                self._pair(path)
            number += 1
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1

    @property
    def _line(self) -> int:
        return bisect_right(self._breaks, self._at - 1) + 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"line {self._line} is no TOML")
        self._at = match.end()
        return match.group()
