"""``docs/events.md`` names every kind of event, every field and its type, and shows real lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from coordinator.core.event_json import from_json, kind_of, to_json
from coordinator.core.events import EVENTS, EventBase, Level

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^### `(\w+)`(.*)$", re.MULTILINE)
FIELD = re.compile(
    r"^- `(\w+)`, (integers|integer|numbers by name|numbers|number|boolean|strings|string"
    r"|two strings|counts by name and value|one of)",
    re.MULTILINE,
)
WORDS: dict[Any, str] = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "string",
    tuple[str, str]: "two strings",
    tuple[int, ...]: "integers",
    tuple[float, ...]: "numbers",
    tuple[str, ...]: "strings",
    Mapping[str, float]: "numbers by name",
    Mapping[str, Mapping[str, int]]: "counts by name and value",
}


def described() -> dict[str, tuple[str, str]]:
    """By kind: what follows in its heading, and the text below it."""
    parts = HEADING.split(PAGE)[1:]
    return {parts[i]: (parts[i + 1], parts[i + 2]) for i in range(0, len(parts), 3)}


def word(kind: Any) -> str:
    return WORDS.get(kind, "one of")


def test_every_kind_is_on_the_page_and_no_other() -> None:
    assert sorted(described()) == sorted(map(kind_of, EVENTS))


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda event_type: event_type.__name__)
def test_every_field_is_on_the_page_with_its_type(event_type: type[EventBase]) -> None:
    marks, text = described()[kind_of(event_type)]
    hints = get_type_hints(event_type)
    named = {field.name: word(hints[field.name]) for field in fields(event_type)}
    assert dict(FIELD.findall(text)) == named
    for name, kind in hints.items():
        if name in named and word(kind) == "one of":
            assert all(f'`"{member.value}"`' in text for member in kind), name
    for level in (Level.ROUNDS, Level.FULL):
        assert (f" {level}" in marks) == (event_type.recorded_at is level)
    assert (" warning" in marks) == event_type.warning


def test_the_example_is_what_is_written() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) > 3
    assert [to_json(from_json(line)) for line in lines] == lines
