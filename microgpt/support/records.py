"""Frozen dataclasses that are made by the thousand.

``dataclass(frozen=True)`` makes each field five times as expensive to fill as an ordinary one, and
a message of ten fields takes a microsecond. ``record`` makes an ordinary dataclass with slots that
is compared and hashed as a frozen one is. That nobody changes it is for mypy to see, for which
``record`` is ``dataclass`` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen):
        """A decorator, always used as ``@record(frozen=True)``."""
        assert frozen  # noqa: S101  # what mypy takes it for
        return dataclass(slots=True, weakref_slot=True, unsafe_hash=True)
