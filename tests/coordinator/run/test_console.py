"""What people see of a run: plain lines in a pipe, a live view on a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import termios
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.core.events import CheckpointSaved, Joined, Lost, Paused, Resumed, Status
from coordinator.core.state import Worker
from coordinator.core.work_times import WorkTimes
from coordinator.run.console import PlainConsole
from coordinator.run.live_console import MAX_WORKER_LINES, LiveConsole
from coordinator.run.pace import Pace, duration, figure, speed, summary
from tests.processes import ENDLESS, TINY, Lab, eventually

pytestmark = pytest.mark.timeout(300)


def record(step: int, loss: float = 3.36604, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": loss, "lr": 0.01, "documents": 32, **more}


# Plain lines


def test_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(1000, quiet=False)
    console.step(record(1))
    console.step(record(1000, loss=12.0))
    assert capsys.readouterr().out == (
        "step    1 / 1000 | loss 3.3660\nstep 1000 / 1000 | loss 12.0000\n"
    )


def test_long_runs_get_a_thousand_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(50_000, quiet=False)
    for step in range(1, 50_001):
        console.step(record(step))
    lines = capsys.readouterr().out.splitlines()
    assert 1000 <= len(lines) <= 1002
    assert lines[0] == "step     1 / 50000 | loss 3.3660"
    assert lines[-1] == "step 50000 / 50000 | loss 3.3660"


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(10, quiet=False)
    console.tell(Joined(1, "anna", "tape"))
    console.tell(CheckpointSaved(1, 5, 5))
    console.tell(Lost(1, "anna\x1b[2J", 0))
    shown = capsys.readouterr()
    assert shown.out == "anna has joined (tape engine)\n"
    assert shown.err == "warning: anna?[2J is gone: its connection has closed\n"


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(10, quiet=True)
    console.step(record(1))
    console.tell(Joined(1, "anna", "tape"))
    console.tell(Lost(1, "anna", 0))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "warning: anna is gone: its connection has closed\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0:00:00"), (59.7, "0:01:00"), (3599.4, "0:59:59"), (86400, "24:00:00")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace(5.0)
    assert pace.rates(0.0, {0: 0}) == {0: 0.0}
    for second in range(1, 11):
        pace.rates(float(second), {0: 100 * second})
    assert pace.rates(11.0, {0: 1100}) == {0: pytest.approx(100.0)}
    for second in range(12, 30):
        stands = pace.rates(float(second), {0: 1100})
    assert stands == {0: 0.0}


def test_paces_are_over_the_same_seconds_for_all() -> None:
    pace = Pace(5.0)
    for second in range(11):
        pace.rates(float(second), {1: 10 * second})
    assert pace.rates(11.0, {1: 110, 2: 40}) == {1: 10.0, 2: 8.0}
    assert pace.rates(11.0, {1: 110, 2: 40}) == {1: 10.0, 2: 8.0}, "the clock stands still"


@pytest.mark.parametrize(
    ("steps", "seconds", "text"),
    [
        (1000, 1.6, "625 steps/s"),
        (2000, 0.8, "2,500 steps/s"),
        (30, 20.0, "1.5 steps/s"),
        (3, 20.0, "6.7 s/step"),
        (2, 500.0, "250 s/step"),
        (1, 0.0, "1,000,000,000 steps/s"),
    ],
)
def test_speeds(steps: int, seconds: float, text: str) -> None:
    assert speed(steps, seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0.0, "0"), (0.034, "0.034"), (1.26, "1.3"), (9871.4, "9,871")]
)
def test_figures(number: float, text: str) -> None:
    assert figure(number) == text


def test_getting_ready_and_training_are_told_apart() -> None:
    times = WorkTimes()
    for seconds, ready in ((11.0, False), (1.0, True), (0.6, True), (0.5, False)):
        times.add(seconds, ready)
    assert summary(times, 1000, 1.1) == "ready after 12.1 s; 1,000 steps in 1.6 s (625 steps/s)"
    times.add(20.0, False)
    assert summary(times, 1000, 1.1) == (
        "ready after 12.1 s, 20.5 s without workers in between; 1,000 steps in 1.6 s (625 steps/s)"
    )


# The live view


def live(monkeypatch: pytest.MonkeyPatch, total: int = 400, first: int = 0) -> LiveConsole:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    return LiveConsole(total, first)


def visible(text: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)


def test_in_a_pause_the_remaining_time_stands_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(
        "coordinator.run.live_console.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    console, workers = live(monkeypatch), [worker(1, ready=True)]
    for step in range(1, 5):
        clock[0] += 1.0
        console.step(record(step))
        console.refresh(workers)
    assert "ETA 0:06:36" in visible(capsys.readouterr().out)
    console.tell(Paused("page", 4))
    for _ in range(30):
        clock[0] += 1.0
        console.refresh(workers)
    shown = visible(capsys.readouterr().out)
    assert "paused after step 4, as the page wants it" in shown
    assert "paused: 30 s" in shown
    assert set(re.findall(r"ETA ([\d:]+)", shown)) == {"0:06:36"}
    console.tell(Resumed("page", 4, 30.0))
    clock[0] += 1.0
    console.step(record(5))
    console.refresh(workers)
    shown = visible(capsys.readouterr().out)
    assert "going on after a pause of 30.0 s" in shown
    assert "ETA 0:06:35" in shown


def worker(number: int, **more: Any) -> Worker:
    fields = {"in_flight": {}, **more}
    return Worker(b"%d" % number, number, f"worker-{number}", "tape", 0.0, **fields)


def test_the_live_view_shows_the_run_and_its_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = live(monkeypatch)
    console.step(record(1, loss=3.0))
    console.step(record(2, loss=2.0))
    workers = [worker(10, documents=12_345, ready=True), worker(2)]
    clock = [100.0]
    monkeypatch.setattr(
        "coordinator.run.live_console.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    console.refresh(workers)
    shown = visible(capsys.readouterr().out)
    assert "step 2 / 400" in shown
    assert "ETA" in shown
    assert re.search(
        r"loss 2.0000, mean of 2 2.5000, learning rate 0.010000, [\d,]+ documents/s", shown
    )
    assert re.search(r"worker-10 +tape +idle +12,345 +0", shown)
    assert re.search(r"worker-2 +tape +starting +0 +0", shown)
    assert shown.index("worker-2") < shown.index("worker-10"), "as people count"
    clock[0] += 0.09
    console.refresh(workers)
    assert capsys.readouterr().out == "", "it is drawn at most ten times a second"
    clock[0] += 0.02
    console.refresh(workers)
    assert capsys.readouterr().out != ""
    console.close()


def test_header_and_rows_count_the_same_documents_in_the_same_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(
        "coordinator.run.live_console.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    console = live(monkeypatch)
    workers = [worker(1), worker(2)]
    for _ in range(24):  # they compile
        clock[0] += 1.0
        console.refresh(workers)
    shown = visible(capsys.readouterr().out)
    assert "getting ready: 1 s" in shown
    assert "getting ready: 24 s" in shown
    workers[0].ready = workers[1].ready = True
    for step in range(1, 21):
        clock[0] += 0.1
        workers[0].documents += 10
        workers[1].documents += 22
        console.step(record(step))
        console.refresh(workers)
    last = visible(capsys.readouterr().out).rpartition("step 20 / 400")[2]
    assert "getting ready" not in last
    assert "320 documents/s" in last
    assert re.search(r"worker-1 +tape +computing +200 +100\s", last)
    assert re.search(r"worker-2 +tape +computing +440 +220\s", last)
    assert "ETA 0:00:38" in last, "compiling is not the pace of steps"
    console.close()


def test_what_a_worker_prepares_is_its_state_and_no_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = live(monkeypatch)
    one = worker(1)
    for text in ("compiling [1 of 2]", "compiling [2 of 2]"):
        console.tell(Status(1, "worker-1", text))
    console.refresh([one])
    assert re.search(
        r"worker-1 +tape +compiling \[2 of 2\] +0 +0", visible(capsys.readouterr().out)
    )
    one.ready = True
    console._shown = 0.0
    console.refresh([one])
    one.ready = False  # a new life: what it did then is past
    console._shown = 0.0
    console.refresh([one])
    assert re.search(r"idle.*starting", visible(capsys.readouterr().out), re.DOTALL)
    console.close()


def test_workers_that_have_gone_without_a_word_stay_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(
        "coordinator.run.live_console.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    console = live(monkeypatch)
    left = worker(1, ready=True)
    gone = [worker(2, documents=7, gone="silent"), worker(3, documents=9, gone="lost")]
    console.refresh([left], gone[:1])
    clock[0] += 12.0
    capsys.readouterr()
    console.refresh([left], gone)
    shown = visible(capsys.readouterr().out)
    assert re.search(r"worker-1 +tape +idle +0 +0", shown)
    assert re.search(r"worker-2 +tape +silent for 12 s +7 +0", shown)
    assert re.search(r"worker-3 +tape +lost for 0 s +9 +0", shown)
    clock[0] += 1.0
    console.refresh([], gone)
    assert "waiting for workers: 1 s" in visible(capsys.readouterr().out)
    console.close()


def test_a_low_terminal_shows_as_many_workers_as_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = live(monkeypatch)
    monkeypatch.setenv("LINES", "12")
    console.refresh([worker(number) for number in range(1, 41)])
    shown = visible(capsys.readouterr().out)
    assert shown.count("\n") <= 11
    assert "worker-6" in shown
    assert "and 34 more" in shown
    console.close()


def test_events_and_markup_in_the_live_view(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = live(monkeypatch)
    console.tell(Lost(1, "[bold]anna[/]\x1b[2J", 0))
    console.tell(CheckpointSaved(1, 5, 5))
    console.refresh([worker(n) for n in range(1, 41)])
    console.close()
    out = capsys.readouterr().out
    shown = visible(out)
    assert "warning: [bold]anna[/]?[2J is gone" in shown
    assert "saved" not in shown
    assert f"and {40 - MAX_WORKER_LINES} more" in shown
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1, "the cursor comes back"


class Terminal:
    """A pseudo terminal that remembers all that was written to it."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.ours, 65536):
                self._data += data
        except OSError:
            return  # the other end is closed

    @property
    def shown(self) -> str:
        return self._data.decode(errors="replace")

    def close(self) -> None:
        os.close(self.theirs)
        self._reader.join(5)
        os.close(self.ours)


def test_a_training_on_a_terminal(lab: Lab) -> None:
    terminal = Terminal()
    lab.pipe = terminal.theirs
    flags = (*TINY, "--steps", "30", "--batch-size", "4", "--data", str(lab.data))
    train = lab.train(*flags, "--workers", "2", "--engine", "scalar")
    assert train.wait() == 0, train.err
    terminal.close()
    shown = visible(terminal.shown)
    assert "step 30 / 30" in shown
    assert re.search(r"loss \d\.\d{4}, mean of 30 \d\.\d{4}, learning rate 0\.000333", shown)
    assert re.search(r"worker-[12] +scalar +(computing|idle)", shown)
    assert "ETA" in shown
    assert "sample 20: " in shown
    assert "| loss" not in shown, "no plain lines beside the live view"
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") == 1
    assert train.err == ""


@pytest.mark.soak
def test_a_dumb_terminal_gets_plain_lines(lab: Lab) -> None:
    terminal = Terminal()
    lab.pipe = terminal.theirs
    flags = (*TINY, "--steps", "2", "--batch-size", "2", "--data", str(lab.data))
    train = lab.train(*flags, "--workers", "1", "--engine", "scalar", TERM="dumb")
    assert train.wait() == 0, train.err
    terminal.close()
    assert "step    2 /    2 | loss" in terminal.shown
    assert "\x1b" not in terminal.shown


def test_ctrl_c_on_a_terminal_gives_it_back(lab: Lab) -> None:
    terminal = Terminal()
    lab.pipe = terminal.theirs
    lab.slow_down(0.02)
    flags = (*TINY, *ENDLESS, "--batch-size", "4", "--data", str(lab.data))
    train = lab.train(*flags, "--workers", "2", "--engine", "scalar")
    lab.run_dir().reaches(3)
    eventually(lambda: "learning rate" in terminal.shown, "the live view")
    train.send_group(signal.SIGINT)
    assert train.wait(10) == 130
    terminal.close()
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") == 1
    assert "to go on: python scripts/train.py --resume" in visible(terminal.shown)


@pytest.mark.soak
def test_a_training_in_a_pipe(lab: Lab) -> None:
    flags = (*TINY, "--steps", "3", "--batch-size", "2", "--data", str(lab.data))
    train = lab.train(*flags, "--workers", "1", "--engine", "scalar")
    quiet = lab.train(*flags, "--workers", "1", "--engine", "scalar", "--quiet", run="runs/quiet")
    assert train.wait() == 0
    assert quiet.wait() == 0
    lines = train.out.splitlines()
    steps = [line for line in lines if line.startswith("step")]
    losses = [record["loss"] for record in lab.run_dir().metrics]
    expected = [f"step {n:4d} /    3 | loss {loss:.4f}" for n, loss in enumerate(losses, 1)]
    assert steps == expected
    assert lines[-2] == "checkpoint: runs/it/checkpoint.msgpack"
    assert lines[-1] == "more samples: python scripts/sample.py runs/it/checkpoint.msgpack"
    assert [line[:11] for line in lines[-22:-2]] == [f"sample {n:2d}: " for n in range(1, 21)]
    assert train.out.replace("\n", "").isprintable(), "no control characters"
    assert train.err == ""
    assert "step " not in quiet.out
    assert quiet.err == ""
