"""``python -m pytest --strategy FILE.py:Class``: the laws as tests, for a class of one's own."""

from __future__ import annotations

import secrets

import pytest

from lab.checking.laws import laws_for
from lab.checking.subject import find

SCHEDULES = 200


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    spec = metafunc.config.getoption("--strategy")
    if "law" in metafunc.fixturenames:
        metafunc.parametrize("law", [law.says for law in laws_for(find(spec))] if spec else [])


@pytest.mark.own_strategy
def test_own(law: str, request: pytest.FixtureRequest) -> None:
    subject = find(request.config.getoption("--strategy"))
    (found,) = (known for known in laws_for(subject) if known.says == law)
    first = secrets.randbelow(1 << 40)
    schedules = range(first, first + SCHEDULES)
    assert found.holds(subject, schedules, lambda done, total: None) == "", f"seeds from {first}"
