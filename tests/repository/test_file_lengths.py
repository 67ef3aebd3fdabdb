"""A file of the product is short, or says why it is not; no two test files have the same name."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.repository.import_reader import PACKAGES, ROOT

MOST_LINES = 300
FIRST_LINES = 20  # in which the reason must stand
REASON = "Longer than 300 lines because "


def complaint(text: str) -> str:
    """What is wrong with the length of a file's text; "" if nothing is."""
    lines = text.splitlines()
    reasoned = REASON in " ".join(" ".join(lines[:FIRST_LINES]).replace("#", " ").split())
    if len(lines) > MOST_LINES and not reasoned:
        return f"{len(lines)} lines: split it, or say in its first lines '{REASON}...'"
    if len(lines) <= MOST_LINES and reasoned:
        return f"{len(lines)} lines: it needs no reason any more"
    return ""


def test_no_file_is_long_without_a_reason() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 100
    found = {path.relative_to(ROOT).as_posix(): complaint(path.read_text()) for path in files}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x = 1\n" * 300, ""),
        ("x = 1\n" * 301, "301 lines: split it"),
        (f'"""Long.\n\n{REASON}it is a table.\n"""\n' + "x = 1\n" * 300, ""),
        ('"""Long.\n\nLonger than 300 lines\nbecause it is.\n"""\n' + "x = 1\n" * 300, ""),
        (f'"""Long."""\n# {REASON}it is a table.\n' + "x = 1\n" * 300, ""),
        ("x = 1\n" * 300 + f"# {REASON}nobody looks here.\n", "301 lines: split it"),
        (f"# {REASON}it was long once.\n", "1 lines: it needs no reason any more"),
    ],
)
def test_a_length_is_judged(text: str, wrong: str) -> None:
    assert complaint(text).startswith(wrong)
    assert bool(complaint(text)) == bool(wrong)


def test_files_of_tests_have_names_of_their_own() -> None:
    """Their folders are no packages: two of one name could not be tried together."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []
