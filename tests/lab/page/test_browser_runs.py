"""The page in a real browser: what it gets of a run that goes on, is over, fails or comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from coordinator.core.events import Outcome
from tests.conftest import Reference
from tests.lab.page import records
from tests.lab.page.conftest import Console, Open, Serve
from tests.lab.page.records import BEGIN
from tests.lab.page.serving import page_of
from tests.processes import PATIENCE, TINY, Lab, Process, eventually, session_members

MS = 1000 * PATIENCE
STEPS = 80
GONE = [
    "ERR_CONNECTION_REFUSED",
    "ERR_INCOMPLETE_CHUNKED",
    "ERR_EMPTY_RESPONSE",
    "ERR_CONNECTION_RESET",
]
DRAWN = "() => [...page.charts.loss.sources[0].source.data.x]"


def kill_coordinator(train: Process) -> None:
    """As ``kill -9`` does."""

    def found() -> int:
        for pid in session_members(train.pid):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"coordinator" in file.read().split(b"\0"):
                    return pid
        return 0

    os.kill(eventually(found, "there is a coordinator"), signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_viewers_see_a_run_to_its_end_though_its_coordinator_is_killed(
    open_page: Open, serve: Serve, lab: Lab, console: Console, reference: Reference
) -> None:
    console.expected += GONE  # the page ends with the run
    lab.slow_down(0.004)
    train = lab.train(
        "--workers", "2", "--engine", "scalar", *TINY, "--data", str(lab.data), "--steps",
        str(STEPS), "--checkpoint-every", "10", "--page", "--page-port", "0", "--quiet",
    )  # fmt: skip
    train.expected = True
    url = page_of(train).url
    first, second = open_page(url), open_page(url, viewport={"width": 390, "height": 844})
    lab.run_dir().reaches(12)
    first.reload()  # in the middle
    first.wait_for_function("() => page.store.steps.length >= 12", timeout=MS)
    kill_coordinator(train)
    lab.run_dir().happens("started", times=2)
    for window in (first, second):
        window.locator("#phase[data-phase=finished]").wait_for(timeout=MS)
        window.locator("#tile-step", has_text=f"{STEPS} / {STEPS}").wait_for(timeout=MS)
        window.wait_for_function(f"() => page.store.steps.length === {STEPS}", timeout=MS)
        assert window.evaluate(DRAWN) == [*range(1, STEPS + 1)]
        kinds = window.evaluate("() => page.store.marks.map((mark) => mark.kind)")
        assert kinds.count("started") == 2
        epochs = window.evaluate("() => page.store.workers.map((worker) => worker.epoch)")
        assert set(epochs) == {2}
    assert train.wait() == 0

    late = open_page(serve(lab.place / "runs/it").url)
    late.locator("#phase[data-phase=finished]").wait_for(timeout=MS)
    assert late.evaluate(DRAWN) == [*range(1, STEPS + 1)]
    digest = late.locator("#digest[title]:not([title=''])")
    digest.wait_for(timeout=MS)
    assert digest.get_attribute("title") == reference(STEPS).state_sha256


@pytest.mark.soak
def test_a_run_that_fails_says_why(open_page: Open, serve: Serve, tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 5, BEGIN, end=Outcome.FAILED), steps=5)
    window = open_page(serve(run).url)
    window.locator("#phase[data-phase=failed]").wait_for(timeout=MS)
    window.locator("#reason", has_text="that is all").wait_for(timeout=MS)


@pytest.mark.soak
def test_a_run_that_was_killed_and_garbage_in_its_record_are_told(
    open_page: Open, serve: Serve, tmp_path: Path
) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 5, BEGIN), steps=5)
    with open(run / "metrics.jsonl", "a") as file:
        file.write("garbage\n")
    window = open_page(serve(run).url)
    window.locator("#phase[data-phase=killed]").wait_for(timeout=MS)
    window.locator("#reason", has_text="it is no record of a step").wait_for(timeout=MS)


@pytest.mark.soak
def test_a_folder_that_is_still_empty_becomes_a_run(
    open_page: Open, serve: Serve, tmp_path: Path
) -> None:
    window = open_page(serve(tmp_path).url)
    window.locator("#phase[data-phase=waiting]").wait_for(timeout=MS)
    records.write(tmp_path, records.epoch(1, 5, BEGIN, end=Outcome.DONE), steps=5)
    window.locator("#phase[data-phase=finished]").wait_for(timeout=MS)
    window.locator("#run-name", has_text=tmp_path.name).wait_for(timeout=MS)
    assert window.evaluate(DRAWN) == [1, 2, 3, 4, 5]
