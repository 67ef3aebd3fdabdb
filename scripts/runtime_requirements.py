"""Print what the program itself needs of ``requirements.lock``, with hashes, without the tools.

Its page is part of it. The container image installs this and looks for nothing further; ``make
setup`` installs all of the lock. The lock says of each package who asked for it ("via"), so what
the dependencies in ``pyproject.toml`` lead to is known.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("page",)  # of the project, that belong to the program
#: Of these nothing is imported, so that what they need in turn is not needed: bokeh's JavaScript is
#: all that the page takes of it.
ALONE = frozenset(["bokeh"])
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """A package of the lock: its lines as they stand, and the packages that asked for it."""

    name: str
    lines: tuple[str, ...]
    wanted_by: frozenset[str]


def normal(requirement: str) -> str:
    """The name in a requirement, as package indexes compare names."""
    found = NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def entries(lock: str) -> Iterator[Entry]:
    """The packages of a lock file."""
    block: list[str] = []
    for line in [*lock.splitlines(), "end"]:
        if block and not line.startswith((" ", "#")):
            via = (text.removeprefix("via").strip() for text in _comments(block))
            yield Entry(normal(block[0]), tuple(block), frozenset(map(normal, via)) - {""})
            block = []
        if line.strip() and (block or not line.startswith("#")):
            block.append(line)


def _comments(block: list[str]) -> Iterator[str]:
    for line in block:
        before, hash_sign, text = line.partition("# ")
        if hash_sign and not before.strip():
            yield text.strip()


def runtime(project: str, lock: str) -> list[Entry]:
    """Those entries that the project's dependencies need. Raises ValueError if one is missing."""
    known = tomllib.loads(project)["project"]
    extras = [
        text for name in EXTRAS for text in known.get("optional-dependencies", {}).get(name, ())
    ]
    wanted = {normal(text) for text in (*known["dependencies"], *extras)}
    locked = list(entries(lock))
    missing = wanted - {entry.name for entry in locked}
    if missing:
        raise ValueError(f"not in the lock: {', '.join(sorted(missing))}; run 'make lock'")
    while True:
        needed = [e for e in locked if e.name in wanted or e.wanted_by & (wanted - ALONE)]
        names = {entry.name for entry in needed}  # a package may have an entry per Python version
        if names == wanted:
            return needed
        wanted = names


def main() -> int:
    """Print the lines. Returns the exit code."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    project, lock = (ROOT / name for name in ("pyproject.toml", "requirements.lock"))
    try:
        found = runtime(project.read_text("utf-8"), lock.read_text("utf-8"))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for entry in found:
        print("\n".join(entry.lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
