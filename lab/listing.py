"""Lists what a run can be made of: ``python scripts/strategies.py``.

Everything shown is read from the modules themselves: the first sentence of each, its options with
their types and defaults, what it promises, and the first paper that it names.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import click

from microgpt.aggregation.registry import AGGREGATIONS
from microgpt.compression.registry import COMPRESSORS
from microgpt.optim.registry import OPTIMIZERS
from microgpt.strategies.base import Promise
from microgpt.strategies.registry import STRATEGIES

#: The word for a kind, the flags that choose one of it, and where they stand.
KINDS: tuple[tuple[str, str, Mapping[str, type[Any]]], ...] = (
    ("strategy", "--strategy NAME --strategy-option KEY=VALUE", STRATEGIES),
    ("compressor", "--compress NAME:KEY=VALUE,KEY=VALUE", COMPRESSORS),
    ("aggregation rule", "--aggregate NAME:KEY=VALUE", AGGREGATIONS),
    ("optimizer", "--inner-optimizer, --outer-optimizer NAME:KEY=VALUE,...", OPTIMIZERS),
)
_ARXIV = re.compile(r"(?<![\d.])(\d{4}\.\d{4,5})(?![\d.])")


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a class: ``type`` is ``int``, ``float``, ``bool`` or ``str``."""

    name: str
    type: str
    default: int | float | bool | str


@dataclasses.dataclass(frozen=True)
class Entry:
    """One that can be chosen. ``paper``: an arXiv number, or "" if its module names none."""

    kind: str
    name: str
    about: str
    promise: str
    paper: str
    options: tuple[Option, ...]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="As a list of JSON objects.")
def main(as_json: bool) -> None:
    """List strategies, compressors, aggregation rules and optimizers with their options."""
    if as_json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries()], indent=2))
    else:
        print("\n".join(lines()))


def entries() -> Iterator[Entry]:
    """All of them, kind by kind."""
    for kind, _, classes in KINDS:
        for name, known in classes.items():
            yield describe(kind, name, known)


def describe(kind: str, name: str, known: type[Any]) -> Entry:
    """What a class and its module tell of themselves.

    Compressors, rules and optimizers are functions of what they are given, and so always exact.
    """
    told = sys.modules[known.__module__].__doc__ or ""
    heading = " ".join(told.split("\n\n")[0].split()).removeprefix(f"``{name}``: ")
    paper = _ARXIV.search(told)
    promise = getattr(known, "promise", Promise.EXACT)
    options = tuple(_options(known))
    about = heading.replace("``", "").rstrip(".")
    return Entry(kind, name, about, str(promise), paper[1] if paper else "", options)


def _options(known: type[Any]) -> Iterator[Option]:
    types = get_type_hints(known)
    for field in dataclasses.fields(known):
        if field.init:
            default: Any = field.default  # there is one: see the interfaces
            yield Option(field.name, types[field.name].__name__, default)


def lines() -> Iterator[str]:
    """The list for people."""
    found = list(entries())
    width = max(len(entry.name) for entry in found)
    for kind, flags, _ in KINDS:
        yield f"{kind}: {flags}"
        for entry in found:
            if entry.kind == kind:
                yield f"  {entry.name:{width}}  {entry.about}"
                yield f"  {'':{width}}  {details(entry)}"
        yield ""
    yield "Each may be FILE.py:Class, too: see docs/strategies.md and docs/compression.md."


def details(entry: Entry) -> str:
    """Options, promise and paper in one line."""
    options = [f"{o.name}: {o.type} = {o.default}" for o in entry.options]
    paper = [f"arXiv {entry.paper}"] if entry.paper else []
    promise = [entry.promise] if entry.kind == "strategy" else []
    return " | ".join([", ".join(options) or "no options", *promise, *paper])
