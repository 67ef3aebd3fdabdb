"""Marks of single parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy


def soak(*values: Any, id: str | None = None) -> Any:
    """Values of a parametrized test that only ``make test-all`` tries.

    Each is a further case of a behaviour that other values of the same test show in ``make test``.
    """
    return pytest.param(*values, marks=pytest.mark.soak, id=id)


def tried(
    few: int, many: int, *strategies: SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Any]:
    """A test that is tried on ``few`` examples in ``make test``, and on ``many`` in the soaks."""

    def decorate(check: Callable[..., None]) -> Any:
        @pytest.mark.parametrize("examples", [few, soak(many)])
        def test(examples: int) -> None:
            run: Callable[[], None] = given(*strategies)(check)
            settings(max_examples=examples, deadline=None)(run)()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate
