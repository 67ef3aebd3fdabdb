"""The clocks of real processes: which phases their steps are divided into, written at the end."""

from __future__ import annotations

import pytest

from microgpt.support import step_clock
from microgpt.support.step_clock import COORDINATOR, WORKER
from tests.marks import soak
from tests.processes import TINY, Lab

STEPS = 30
RUN = (*TINY, "--steps", str(STEPS), "--batch-size", "4", "--workers", "2", "--engine", "scalar")


@pytest.mark.parametrize("times", [soak(""), "times"])
def test_each_process_writes_where_its_steps_went(lab: Lab, times: str) -> None:
    folder = lab.place / "times"
    given = {"MICROGPT_STEP_TIMES": str(folder)} if times else {}
    train = lab.train(*RUN, "--data", str(lab.data), **given)
    assert train.wait() == 0, train.err
    assert "MICROGPT_STEP_TIMES" not in train.err
    if not times:
        assert not folder.exists()
        return
    found = {path.stem: step_clock.read(path) for path in folder.iterdir()}
    assert found.keys() == {"coordinator", "worker-1", "worker-2"}
    steps = found.pop("coordinator")
    assert [each.step for each in steps] == [*range(2, STEPS + 1)]  # the first includes the start
    for each in steps:
        assert tuple(each.seconds) == COORDINATOR
        assert all(seconds > 0.0 for seconds in each.seconds.values())
    # The last one is not left for another, and one of the two may have come late.
    for steps in found.values():
        assert [each.step for each in steps] == sorted({each.step for each in steps})
        assert all(tuple(each.seconds) == WORKER for each in steps)
    assert max(len(steps) for steps in found.values()) == STEPS - 1
    computed = [each.seconds["engine"] for steps in found.values() for each in steps]
    assert len(computed) >= STEPS - 1
    assert all(seconds > 0.0 for seconds in computed)
