"""Which instruction writes a gradient first, and which gradients must be zero before."""

from __future__ import annotations

import numpy as np
import pytest

from microgpt.engine.first_contributions import FirstContributions, Operands

#: Slots 0 and 1 are constants; the positions' instructions made 2 to 4 and 5 to 7.
CREATED = [2, 5, 8]


def operands(a: list[int], b: list[int], chooses: bool = False) -> Operands:
    return Operands(np.array(a, np.int32), np.array(b, np.int32), chooses)


@pytest.mark.parametrize(
    ("first", "second", "fresh", "clear"),
    [
        # Backward begins with the last instruction: it writes, the one before adds.
        (operands([2], []), operands([2], []), [(False, False), (True, False)], [3, 4]),
        (operands([2], [3]), operands([2], [4]), [(False, True), (True, True)], []),
        (operands([2, 3], []), operands([3], []), [(False, False), (True, False)], [2, 4]),
        # What is an operand twice is added to, by whichever of both comes later.
        (operands([2, 2], [3]), operands([], []), [(False, True), (False, False)], [2, 4]),
        (operands([2], [3, 3]), operands([], []), [(True, False), (False, False)], [3, 4]),
        (operands([2, 3], [3]), operands([], []), [(False, False)] * 2, [2, 3, 4]),
        # One of many is chosen: the others are not written.
        (operands([2, 3], [], True), operands([], []), [(False, False)] * 2, [2, 3, 4]),
        # Nobody needs the gradients of constants, but they share an instruction.
        (operands([1], [2]), operands([], []), [(False, True), (False, False)], [3, 4]),
    ],
)
def test_of_one_position(
    first: Operands, second: Operands, fresh: list[tuple[bool, bool]], clear: list[int]
) -> None:
    found = FirstContributions([first, second], [0, 2], CREATED[:2], np.array([], np.int32))
    assert found.fresh == fresh
    assert found.clear.tolist() == clear
    assert found.clear_first.tolist() == [0, len(clear)]


def test_what_a_later_position_reads_is_cleared() -> None:
    """A shorter document has no later position that would write it."""
    each = [operands([2], [3]), operands([2], [5])]
    found = FirstContributions(each, [0, 1, 2], CREATED, np.array([4, 7], np.int32))
    assert found.fresh == [(False, True), (False, True)]
    assert found.clear.tolist() == [2, 4, 6, 7]
    assert found.clear_first.tolist() == [0, 2, 4]


def test_a_loss_that_is_used_keeps_the_share_it_begins_with() -> None:
    found = FirstContributions([operands([3], [])], [0, 1], CREATED[:2], np.array([3], np.int32))
    assert found.fresh == [(False, False)]
    assert found.clear.tolist() == [2, 3, 4]
