"""Buttons of the page, pressed in a real browser: what becomes of the run."""

from __future__ import annotations

import signal

import pytest

from coordinator.core.events import Assigned, Controlled, LearningRateChanged, Lost, Paused, Resumed
from microgpt.checkpoint.format import load
from tests.conftest import Reference
from tests.lab.page.asking import Asker
from tests.lab.page.conftest import PHONE, Console, Open
from tests.lab.page.serving import page_of
from tests.processes import TINY, Lab, Process

pytestmark = pytest.mark.timeout(300)


def train(lab: Lab, steps: int, *flags: str, seconds: float = 0.005) -> Process:
    lab.slow_down(seconds)
    size = ("--steps", str(steps), "--batch-size", "8", "--data", str(lab.data))
    page = ("--page", "--page-port", "0", "--control")
    return lab.train("--engine", "scalar", "--workers", "2", *TINY, *page, *size, *flags)


def test_a_worker_is_killed_by_its_button_and_its_shards_move(
    open_page: Open, console: Console, lab: Lab, reference: Reference
) -> None:
    run = train(lab, 150)
    console.expected.append("ERR_")  # the server ends with the run, and the page looks for it
    lab.run_dir().happens("ready", 2)
    Asker(page_of(run)).does("pause")  # until the browser is there
    window = open_page(page_of(run).url)
    kill = window.get_by_role("button", name="Kill worker-2")
    kill.wait_for()
    window.get_by_role("button", name="Go on").click()
    kill.click()
    window.get_by_text("Worker-2 is killed, and started again in 1 s.").wait_for()
    window.locator("#happened").get_by_text("worker-2 is gone").wait_for()
    lab.run_dir().reaches(len(lab.run_dir().metrics) + 2)
    window.get_by_role("button", name="Pause").click()
    lab.run_dir().happens("ready", 3)  # it comes back, and its row has its buttons again
    window.locator("#workers").scroll_into_view_if_needed()
    window.get_by_role("button", name="Kill worker-2").wait_for()
    window.get_by_role("button", name="Go on").click()
    assert run.wait() == 0, run.err
    recorded = lab.run_dir().recorded
    (at,) = (place for place, each in enumerate(recorded) if isinstance(each.event, Lost))
    lost = recorded[at].event
    assert isinstance(lost, Lost)
    before = [each.event for each in recorded[:at] if isinstance(each.event, Assigned)]
    theirs = [event for event in before if event.worker == lost.worker]
    last = theirs[-1]
    again = (each.event for each in recorded[at:] if isinstance(each.event, Assigned))
    if lost.unfinished:
        moved = next(e for e in again if (e.round, e.start) == (last.round, last.start))
        assert moved.name == "worker-1"
    assert load(lab.run_dir().newest).state_sha256 == reference(150, 8).state_sha256


@pytest.mark.soak
def test_the_run_is_paused_and_changed_by_the_keyboard(
    open_page: Open, console: Console, lab: Lab
) -> None:
    run = train(lab, 1000)
    console.expected += ["status of 400", "ERR_"]  # a rate that cannot be; the run's end
    window = open_page(page_of(run).url, viewport=PHONE, color_scheme="dark")
    pause = window.locator("#control-pause")
    window.locator("#phase[data-phase='running']").wait_for()
    pause.focus()
    window.keyboard.press("Enter")
    window.locator("#phase[data-phase='paused']").wait_for()
    assert pause.inner_text() == "Go on"
    assert window.locator("#tile-left").inner_text() not in ("", "\u2013")
    window.keyboard.press("Tab")
    window.keyboard.press("Tab")
    window.keyboard.press("Tab")
    window.keyboard.type("a lot")
    window.keyboard.press("Enter")
    window.get_by_text("A learning rate is a number, such as 0.005.").wait_for()
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    faults = axe.Axe().run(window).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["target"]) for fault in faults] == []
    rate = window.get_by_label("Learning rate")
    rate.fill("2000")
    rate.press("Enter")
    window.get_by_text("The learning rate is a number from 0 to 1000.").wait_for()
    rate.fill("0,05")
    rate.press("Enter")
    window.get_by_text("Learning rate 0.05 is asked for, from the next update on.").wait_for()
    pause.press("Space")
    lab.run_dir().happens("learning_rate_changed")
    directory = lab.run_dir()
    assert (len(directory.events(Paused)), len(directory.events(Resumed))) == (1, 1)
    assert directory.events(LearningRateChanged)[0].learning_rate == 0.05
    window.locator("#control-rate[placeholder='0.05']").wait_for()
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no overflow"
    run.send_group(signal.SIGINT)
    run.wait()


@pytest.mark.soak
def test_a_worker_is_frozen_slowed_and_cut_by_its_row(
    open_page: Open, console: Console, lab: Lab
) -> None:
    console.expected.append("ERR_")  # the server ends with the run, and the page looks for it
    run = train(lab, 1000, "--worker-timeout", "1", seconds=0.01)
    window = open_page(page_of(run).url)
    window.get_by_role("button", name="Freeze worker-1").click()
    window.get_by_role("button", name="Thaw worker-1").click()
    window.get_by_role("button", name="Freeze worker-1").wait_for()
    window.get_by_label("Speed of worker-2").select_option("4")
    window.get_by_role("button", name="Cut the link of worker-2").click()
    lab.run_dir().happens("lost")
    window.reload()
    assert window.get_by_label("Speed of worker-2").input_value() == "4", "it is remembered"
    window.get_by_role("button", name="Restore the link of worker-2").click()
    window.get_by_role("button", name="Cut the link of worker-2").wait_for()
    window.get_by_role("button", name="Add a worker").click()
    window.locator("#workers").scroll_into_view_if_needed()  # what is not seen is not drawn
    window.get_by_role("button", name="Remove worker-3").click()
    lab.run_dir().happens("left")
    told = [(event.verb.value, event.name) for event in lab.run_dir().events(Controlled)]
    assert told == [
        ("freeze", "worker-1"), ("thaw", "worker-1"), ("slow", "worker-2"), ("cut", "worker-2"),
        ("restore", "worker-2"), ("add", "worker-3"), ("remove", "worker-3"),
    ]  # fmt: skip
    run.send_group(signal.SIGINT)
    run.wait()
