"""Frozen dataclasses that are made by the thousand.

``dataclass(frozen=True)`` makes each field five times as expensive to fill as an ordinary one, which
is most of what a short message costs before it is packed. ``record`` is an ordinary dataclass with
slots that is hashed and compared as a frozen one is: that nobody changes it is what mypy sees to,
for which ``record`` is ``dataclass`` itself, and not what every field pays for.
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
