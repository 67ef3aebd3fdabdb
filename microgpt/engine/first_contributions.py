"""Where backward meets a gradient for the first time, so that it writes instead of adding.

What is so written need not have been zero before: less is to be cleared for each document.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int32]
Mask: TypeAlias = NDArray[np.bool_]


class Operands(NamedTuple):
    """Slots to whose gradients an instruction adds: of first and second operands.

    ``chooses``: it adds to one of many, which the document decides.
    """

    a: Ints
    b: Ints
    chooses: bool


class FirstContributions:
    """``fresh``: per instruction, whether ``a`` and ``b`` receive their first contributions.

    ``clear``: slots whose gradients must be zero before backward starts, those of position ``p``
    from ``clear_first[p]``. What is used at a later position, too, is cleared: where its gradient
    begins depends on the length of the document.
    """

    def __init__(
        self, operands: Sequence[Operands], first: list[int], created: list[int], losses: Ints
    ) -> None:
        """``first``: where each position's instructions begin, ``created``: where its slots do."""
        self.fresh = [(False, False)] * len(operands)
        self._number = np.zeros(created[-1], np.int64)
        earliest, latest = _readers(operands, first, created[-1])
        clear: list[NDArray[np.int64]] = []
        for position, (begin, end) in enumerate(pairwise(first)):
            met = (latest >= 0) & ((earliest != position) | (latest != position))
            met[losses] = True
            met[: created[0]] = True  # constants
            written = np.zeros(created[-1], bool)
            for i in range(end - 1, begin - 1, -1):
                self.fresh[i] = self._are_fresh(operands[i], met)
                for slots, fresh in zip(operands[i][:2], self.fresh[i], strict=True):
                    written[slots] |= fresh
                    met[slots] = True
            own = slice(created[position], created[position + 1])
            clear.append(np.flatnonzero(~written[own]) + own.start)
        self.clear = np.concatenate(clear).astype(np.int32)
        self.clear_first = np.cumsum([0, *map(len, clear)], dtype=np.int32)

    def _are_fresh(self, operands: Operands, met: Mask) -> tuple[bool, bool]:
        a, b, chooses = operands
        fresh_a, fresh_b = (len(slots) > 0 and not met[slots].any() for slots in (a, b))
        if chooses or not (fresh_a or fresh_b):
            return False, False
        number, above, below = self._number, np.arange(len(a)), np.arange(-len(b), 0)
        number[a] = above  # a slot that is there twice keeps the last number only
        fresh_a &= bool((number[a] == above).all())
        number[b] = below
        fresh_b &= bool((number[b] == below).all())
        apart = bool((number[a] >= 0).all())
        return fresh_a and apart, fresh_b and apart


def _readers(operands: Sequence[Operands], first: list[int], num_slots: int) -> tuple[Ints, Ints]:
    """(num_slots,) earliest and latest position at which each slot is an operand, else -1."""
    slots = np.concatenate([part for a, b, _ in operands for part in (a, b)] or [np.zeros(0, int)])
    counts = [len(a) + len(b) for a, b, _ in operands]
    position = np.repeat(np.repeat(np.arange(len(first) - 1), np.diff(first)), counts)
    earliest, latest = (np.full(num_slots, -1, np.int32) for _ in range(2))
    latest[slots] = position  # of a slot that is there more than once, the last stays
    earliest[slots[::-1]] = position[::-1]
    return earliest, latest
