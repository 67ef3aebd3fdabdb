"""Marks of single parameters."""

from __future__ import annotations

from typing import Any

import pytest


def soak(*values: Any, id: str | None = None) -> Any:
    """Values of a parametrized test that only ``make test-all`` tries.

    Each is a further case of a behaviour that other values of the same test show in ``make test``.
    """
    return pytest.param(*values, marks=pytest.mark.soak, id=id)
