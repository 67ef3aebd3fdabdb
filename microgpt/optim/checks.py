"""Checks of the numbers that optimizers and aggregation rules are given as options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any


def check_numbers(
    options: Any, *, below_one: Sequence[str] = (), positive: Sequence[str] = ()
) -> None:
    """Make every float field of the frozen dataclass ``options`` a finite float of at least 0.

    The fields ``below_one`` must also lie below 1, the fields ``positive`` above 0. Raises
    ValueError with one sentence about the first field that does not.
    """
    for field in fields(options):
        if field.type != "float" and field.type is not float:
            continue
        number = getattr(options, field.name)
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            raise ValueError(f"{field.name} must be a number, not {number!r}")
        if not -sys.float_info.max <= number <= sys.float_info.max:
            raise ValueError(f"{field.name} must be a finite number, not {number!r}")
        number = float(number)
        object.__setattr__(options, field.name, number)
        if field.name in below_one:
            if not 0.0 <= number < 1.0:
                raise ValueError(f"{field.name} must lie in [0, 1), not {number}")
        elif field.name in positive:
            if number <= 0.0:
                raise ValueError(f"{field.name} must be positive, not {number}")
        elif number < 0.0:
            raise ValueError(f"{field.name} cannot be negative, as {number} is")


def check_count(options: Any, name: str, least: int) -> None:
    """Raise ValueError unless the field ``name`` is a whole number of at least ``least``."""
    number = getattr(options, name)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {number!r}")
