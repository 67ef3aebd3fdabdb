"""The strategy and the compressor that the pages show are complete, and obey the laws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import microgpt
from lab.checking.laws import verdicts
from lab.checking.subject import find
from tests.processes import NAMES, ROOT, TINY_MODEL


def shown(page: str, name: str) -> str:
    """The code of a page that defines a class."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (block,) = (block for block in blocks if f"class {name}(" in block)
    return str(block)


@pytest.mark.parametrize(
    ("page", "name"), [("strategies.md", "Lookahead"), ("compression.md", "Every")]
)
def test_what_a_page_shows_obeys_the_laws(page: str, name: str, tmp_path: Path) -> None:
    code = shown(page, name)
    lines = [line for line in code.splitlines() if line]
    assert len(lines) <= 25
    mine = tmp_path / "mine.py"
    mine.write_text(code)
    tried = verdicts(find(f"{mine}:{name}"), range(200, 212), lambda law: lambda done, of: None)
    assert {law.says: problem for law, problem in tried if problem} == {}


def test_looking_ahead_goes_half_of_the_way(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(shown("strategies.md", "Lookahead"))
    settings = {**TINY_MODEL, "steps": 5, "batch_size": 4}

    def train(**more: object) -> microgpt.TrainingResult:
        return microgpt.train(NAMES, **settings, **more)  # type: ignore[arg-type]  # a test's map

    plain, half = train(), train(strategy=f"{mine}:Lookahead")
    before = train(strategy=f"{mine}:Lookahead", strategy_options={"alpha": 0.0})
    assert plain.losses == half.losses  # the first step back comes after the fifth update
    for name, rows in half.state_dict.items():
        for ours, fast, slow in zip(
            rows, plain.state_dict[name], before.state_dict[name], strict=True
        ):
            assert ours == [b + 0.5 * (a - b) for a, b in zip(fast, slow, strict=True)]
