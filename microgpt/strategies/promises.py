"""What strategies promise about the bits of a run. Needs no NumPy, so `checkpoint show` has it."""

from __future__ import annotations

from enum import StrEnum


class Promise(StrEnum):
    """What a strategy promises about the bits of a run.

    ``EXACT``: the same for any number of workers, any order of answers and any faults.
    ``REPLAYABLE``: timing decides; the recorded order of events gives the same bits again.
    """

    EXACT = "exact"
    REPLAYABLE = "replayable"

    @property
    def meaning(self) -> str:
        """What it means, in a few words for people."""
        if self is Promise.EXACT:
            return "same bits for any number of workers"
        return "timing decides the bits, and microgpt replay computes them again from the record"


#: Of the strategies of this package, by their names; each class says the same of itself.
PROMISES = {
    "sync": Promise.EXACT,
    "noise-scale": Promise.EXACT,
    "local-sgd": Promise.EXACT,
    "diloco": Promise.EXACT,
    "arrival-order": Promise.REPLAYABLE,
    "backup": Promise.REPLAYABLE,
    "async": Promise.REPLAYABLE,
    "ssp": Promise.REPLAYABLE,
    "easgd": Promise.REPLAYABLE,
    "decoupled-diloco": Promise.REPLAYABLE,
}
