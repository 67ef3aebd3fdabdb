"""The checkpoint service: never in the way, never half a file, whatever disk and killers do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.checkpointing import writer as checkpoint_writer
from coordinator.checkpointing.checkpoint_log import SKIPPED_SECONDS, CheckpointLog
from coordinator.checkpointing.cpu_budget import CpuBudget
from coordinator.checkpointing.retention import Retention
from coordinator.checkpointing.writer import (
    CheckpointWriter,
    entry_of,
    find_newest,
    remove_leftovers,
    step_path,
    write,
)
from coordinator.core.actions import Save
from coordinator.core.event_text import describe
from coordinator.core.events import (
    CheckpointFailed,
    CheckpointRecovered,
    CheckpointSaved,
    CheckpointSkipped,
    CheckpointsVanished,
    Event,
)
from coordinator.core.inputs import Saved
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Validation, load
from microgpt.data.dataset import load_dataset
from microgpt.training import TrainingState, from_checkpoint
from tests.conftest import Reference
from tests.crash_writer import RULES, made
from tests.processes import ROOT, TINY, Lab, eventually
from tests.system.test_system_workers import ends_alike
from tests.tiny import make_tiny

pytestmark = pytest.mark.timeout(300)
BASE = make_tiny()


def save(step: int) -> Save:
    return Save(replace(from_checkpoint(BASE), step=step))


def convert(state: TrainingState) -> Checkpoint:
    return replace(BASE, step=state.step)


def await_report(done: list[Saved | Event], step: int) -> None:
    def there() -> bool:
        return any(isinstance(report, Saved) and report.step == step for report in done)

    eventually(there, f"a report of step {step}")


def files(run_dir: Path) -> list[str]:
    return sorted(str(p.relative_to(run_dir)) for p in run_dir.rglob("*") if p.is_file())


# Two names of one file


def test_the_bytes_are_written_once(tmp_path: Path) -> None:
    newest = tmp_path / "checkpoint.msgpack"
    for step in (1, 2):
        write(tmp_path, convert(save(step).state))
        assert newest.samefile(step_path(tmp_path, step))
    assert load(step_path(tmp_path, 1)).step == 1
    assert len(files(tmp_path)) == 3
    # Damage to one is damage to both; then the one before counts.
    newest.write_bytes(newest.read_bytes()[:-1])
    found = find_newest(tmp_path)
    assert found is not None
    assert (found.path, len(found.passed_over)) == (step_path(tmp_path, 1), 2)


@pytest.mark.parametrize(("rules", "copied"), [
    (Retention(), False), (Retention(keep_last=2), False), (Retention(keep_last=1), True),
    (Retention(keep_best=1), True), (Retention(keep_every=5), True),
])  # fmt: skip
def test_a_run_that_keeps_no_older_checkpoint_has_the_newest_twice(
    tmp_path: Path, rules: Retention, copied: bool
) -> None:
    done: list[Saved | Event] = []
    writer = CheckpointWriter(tmp_path, convert, done.append, rules)
    for step in (1, 2):
        writer.submit(save(step))
        await_report(done, step)
    writer.close(30.0)
    newest, last = tmp_path / "checkpoint.msgpack", step_path(tmp_path, 2)
    assert newest.samefile(last) is not copied
    newest.write_bytes(b"damaged")
    found = find_newest(tmp_path)
    assert found is not None
    assert found.checkpoint.step == (2 if copied else 1), "a good one is left"


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path, convert(save(3).state))
    newest = tmp_path / "checkpoint.msgpack"
    assert newest.read_bytes() == step_path(tmp_path, 3).read_bytes()
    assert not newest.samefile(step_path(tmp_path, 3))
    assert len(files(tmp_path)) == 2


def test_the_steps_file_is_on_disk_before_the_newest_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_sync, real_replace, real_link = os.fsync, os.replace, os.link

    def sync(descriptor: int) -> None:
        order.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))[:6])
        real_sync(descriptor)

    def rename(source: Any, target: Any) -> None:
        order.append(f"rename to {Path(target).name}")
        real_replace(source, target)

    def link(source: Any, target: Any) -> None:
        order.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    monkeypatch.setattr(os, "link", link)
    run_dir = tmp_path / "run"
    write(run_dir, convert(save(3).state))
    assert order == [
        "sync .step-", "rename to step-00000003.msgpack", "sync checkp",
        "link", "rename to checkpoint.msgpack", "sync run",
    ]  # fmt: skip


def test_a_leftover_link_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.msgpack.link").write_bytes(b"of a writer that was killed")
    write(tmp_path, convert(save(3).state))
    assert (tmp_path / "checkpoint.msgpack").samefile(step_path(tmp_path, 3))
    assert len(files(tmp_path)) == 2


def test_a_folder_that_vanishes_is_made_anew_and_told_of(tmp_path: Path) -> None:
    done: list[Saved | Event] = []
    writer = CheckpointWriter(tmp_path / "runs" / "it", convert, done.append)
    for step in (1, 2, 3):
        writer.submit(save(step))
        await_report(done, step)
        if step == 1:
            shutil.rmtree(tmp_path / "runs")
    writer.close(30.0)
    (told,) = (report for report in done if not isinstance(report, Saved))
    assert told == CheckpointsVanished(str(tmp_path / "runs" / "it" / "checkpoints"), 2)
    assert told.warning
    assert describe(told).endswith(
        "checkpoints had vanished; it is made anew, with the checkpoint of step 2"
    )
    assert find_newest(tmp_path / "runs" / "it").checkpoint.step == 3  # type: ignore[union-attr]


# A slow disk


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Whoever syncs hangs until the event is set, as with a disk that does not answer."""
    opened, real = threading.Event(), os.fsync

    def hang(descriptor: int) -> None:
        opened.wait(60)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", hang)
    yield opened
    opened.set()


def test_a_hanging_disk_costs_checkpoints_and_neither_time_nor_memory(
    tmp_path: Path, gate: threading.Event
) -> None:
    done: list[Saved | Event] = []
    writer = CheckpointWriter(tmp_path, convert, done.append)
    assert writer.submit(save(0)) is None
    eventually(lambda: list(tmp_path.rglob(".step-*")), "the writer hangs in its first file")
    began = time.perf_counter()
    skipped = [writer.submit(save(step)) for step in range(1, 2001)]
    assert time.perf_counter() - began < 1.0
    assert skipped == [None, *range(1, 2000)]
    assert (done, len(files(tmp_path))) == ([], 1)
    gate.set()
    writer.close(30.0)
    assert done == [Saved(0), Saved(2000)]
    assert find_newest(tmp_path).checkpoint.step == 2000  # type: ignore[union-attr]


def test_what_retention_wants_is_not_skipped_for_any_newer_one(
    tmp_path: Path, gate: threading.Event
) -> None:
    done: list[Saved | Event] = []
    rules = Retention(keep_last=9, keep_every=500, keep_best=1)
    writer = CheckpointWriter(tmp_path, lambda state: made(state.step), done.append, rules)
    writer.submit(save(0))
    eventually(lambda: list(tmp_path.rglob(".step-*")), "the writer hangs in its first file")
    given_up = [writer.submit(save(step)) for step in range(1, 1001)]
    evaluated = replace(save(1001).state, validation=Validation(1001, 2.0))
    given_up += [writer.submit(Save(evaluated)), *(writer.submit(save(s)) for s in (1002, 1003))]
    gate.set()
    writer.close(30.0)
    assert done == [Saved(0), Saved(1001), Saved(1003)], "the newest of those that it wants"
    assert sorted(filter(None, given_up)) == [*range(1, 1001), 1002], "each is told of once"


def test_the_writer_takes_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "SHARE", 1e-9)
    monkeypatch.setattr(checkpoint_writer, "LONGEST_REST", 600.0)
    done: list[Saved | Event] = []
    writer = CheckpointWriter(tmp_path, convert, done.append)
    last = 0
    while not writer.resting:  # until what is saved up is used
        last += 1
        assert writer.submit(save(last)) is None
        await_report(done, last)
        time.sleep(0.001)
    assert last > 1, "a few that are due at once are written"
    writer.submit(save(last + 1))
    await_report(done, last + 1)  # what must be written does not wait
    eventually(lambda: writer.resting, "the next rest")
    writer.hurry()
    eventually(lambda: not writer.resting, "no more rests")
    for step in range(last + 2, last + 5):
        writer.submit(save(step))
        await_report(done, step)
        assert not writer.resting
    writer.close(30.0)


def test_a_writer_that_breaks_says_so_and_goes_on(tmp_path: Path) -> None:
    """The end of a run waits for its report, so there must be one."""
    done: list[Saved | Event] = []

    def break_once(state: TrainingState) -> Checkpoint:
        if state.step == 1:
            raise ZeroDivisionError("a mistake of ours")
        return convert(state)

    writer = CheckpointWriter(tmp_path, break_once, done.append)
    for step in (1, 2):
        writer.submit(save(step))
        await_report(done, step)
    writer.close(30.0)
    assert done == [Saved(1, "a mistake of ours"), Saved(2)]


def test_a_budget() -> None:
    budget = CpuBudget(share=0.25, burst=1.0, longest=10.0)
    assert budget.rest(100.0, 0.5) == 0.0
    assert budget.rest(100.0, 0.5) == 0.0, "what was saved up"
    assert budget.rest(100.0, 0.5) == 2.0
    assert budget.rest(102.0, 0.5) == 2.0, "a quarter of the time"
    assert budget.rest(105.0, 0.0) == 0.0
    assert budget.rest(105.0, 50.0) == 10.0, "but never for very long"
    assert budget.rest(9000.0, 1.0) == 0.0
    assert budget.rest(9000.0, 0.25) == 1.0, "no more is saved up than a burst"


# What is said


def test_an_outage_is_one_warning_and_one_line_when_it_is_over() -> None:
    reports = CheckpointLog()
    assert reports.saved(Saved(0)) == []
    (warning,) = reports.saved(Saved(10, "it is full"))
    assert warning == CheckpointFailed(10, "it is full")
    assert warning.warning
    assert describe(warning).startswith("checkpoint of step 10 not saved: it is full;")
    for step in range(20, 1000, 10):
        assert reports.saved(Saved(step, "it is full")) == []
    (over,) = reports.saved(Saved(1000))
    assert over == CheckpointRecovered(1000, 99)
    assert not over.warning
    text = "checkpoints are saved again: that of step 1000 is, 99 before are not"
    assert describe(over) == text
    assert reports.saved(Saved(1010, "it is full")) == [CheckpointFailed(1010, "it is full")]


def test_saved_ones_are_told_in_bunches() -> None:
    reports = CheckpointLog()
    assert reports.due(0.0) == []
    for step in (5, 6, 7):
        reports.saved(Saved(step))
    (told,) = reports.due(0.1)
    assert told == CheckpointSaved(number=3, first=5, version=7)
    assert describe(told) == "3 checkpoints of steps 5 to 7 saved"
    assert reports.due(0.2) == []
    reports.saved(Saved(8))
    assert [describe(event) for event in reports.due(0.3)] == ["checkpoint of step 8 saved"]


def test_skipped_ones_are_told_every_few_seconds() -> None:
    reports, told = CheckpointLog(), list[Event]()
    for step in range(10_000):  # 1000 a second
        reports.skipped(step, rested=False)
        told += reports.due(step / 1000)
    told += reports.due(10.0, last=True)
    assert reports.due(99.0, last=True) == []
    middle = 1 + int(1000 * SKIPPED_SECONDS)
    assert told == [CheckpointSkipped(number, number - 1, False) for number in (1, middle, 10_000)]
    assert all(event.warning for event in told)
    assert describe(told[0]) == (
        "the disk is slower than training: 1 checkpoint skipped so far for newer ones, the last "
        "that of step 0"
    )
    reports.skipped(10_000, rested=True)
    (last,) = reports.due(99.0)
    assert describe(last).startswith("so many checkpoints would slow the training down: 10001 ")


# A real coordinator


@pytest.mark.soak
def test_a_vanished_folder_is_a_warning_and_comes_back(lab: Lab, reference: Reference) -> None:
    """Also: only so many files are kept, and those of before a restart are known."""
    size = ("--steps", "60", "--batch-size", "2", "--checkpoint-every", "2", "--keep-last", "3")
    coordinator = lab.coordinator(*TINY, *size, "--keep-every", "30", "--data", str(lab.data))
    run = lab.run_dir()
    folder = run.path / "checkpoints"
    eventually(lambda: folder.is_dir() and list(folder.glob("step-*")), "a checkpoint")
    shutil.rmtree(folder)
    folder.write_text("a file in its place, so that it cannot come back")
    lab.slow_down(0.02)
    worker = lab.worker(run.endpoint())
    run.happens("checkpoint_failed")
    run.reaches(len(run.metrics) + 12)
    folder.unlink()
    run.happens("checkpoint_recovered")
    assert coordinator.wait() == 0, coordinator.err
    assert worker.wait() == 0
    # Skipped ones are told apart; a busy machine may also take the worker for silent.
    (warning,) = (line for line in coordinator.err.splitlines() if "not saved" in line)
    assert warning.startswith("warning: checkpoint of step ")
    assert "not saved: runs/it/checkpoints/step-" in warning
    assert "Not a directory" in warning
    assert coordinator.out.count("checkpoints are saved again") == 1
    ends_alike(run, reference(60, 2))
    left = sorted(folder.iterdir())
    assert left[-1].name == "step-00000060.msgpack"
    assert 3 <= len(left) <= 4, "step 30 may have been in the outage"
    assert all(load(path).run == load(run.newest).run for path in left)


SLOW = """
import os, time
real = os.fsync
def slow(descriptor):
    time.sleep(0.05)
    real(descriptor)
os.fsync = slow
from microgpt.support import cli
from coordinator.__main__ import main
cli.run(main)
"""


@pytest.mark.soak
def test_a_slow_disk_slows_no_training_and_fills_no_log(lab: Lab, reference: Reference) -> None:
    flags = (*TINY, "--steps", "120", "--batch-size", "2", "--checkpoint-every", "1", "--quiet")
    where = ("--run-dir", "runs/it", "--bind", "tcp://127.0.0.1:*", "--data", str(lab.data))
    began = time.monotonic()
    coordinator = lab.start(sys.executable, "-c", SLOW, *flags, *where, name="coordinator")
    run = lab.run_dir()
    lab.worker(run.endpoint())
    assert coordinator.wait() == 0, coordinator.err
    ended = time.monotonic() - began
    ends_alike(run, reference(120, 2))
    seconds = run.recorded[-1].time - run.recorded[0].time
    saved = sum(event.number for event in run.events(CheckpointSaved))
    assert saved + run.events(CheckpointSkipped)[-1].skipped == 121, "every one is accounted for"
    assert saved <= seconds / 0.15 + 2
    lines = coordinator.err.splitlines()
    assert len(lines) <= ended / SKIPPED_SECONDS + 2, "one at once, and one at the end"
    assert all("the disk is slower than training" in line for line in lines)


def test_resume_says_what_it_passes_over_and_why(lab: Lab, reference: Reference) -> None:
    run = lab.run_dir()
    (run.path / "checkpoints").mkdir(parents=True)
    data = load_dataset(str(lab.data)).fingerprint()
    for steps in (2, 3, 4, 5):
        good = replace(reference(steps, 4), data=data)
        checkpoint_format.save(step_path(run.path, steps), good)
    newest = bytearray(step_path(run.path, 5).read_bytes())
    newest[len(newest) // 2] ^= 4
    run.newest.write_bytes(newest)
    step_path(run.path, 5).write_bytes(newest[: len(newest) // 2])
    step_path(run.path, 4).write_bytes(b"")
    coordinator = lab.coordinator("--resume", str(run.path), run="")
    assert coordinator.wait() == 0, coordinator.err
    assert f"resuming from {step_path(run.path, 3)} after step 3\n" in coordinator.out
    assert "the run was complete already" in coordinator.out
    lines = coordinator.err.splitlines()
    assert all(line.startswith(f"warning: passed over: {run.path}/") for line in lines)
    assert [line.partition(f"{run.path}/")[2] for line in lines] == [
        "checkpoint.msgpack is damaged: its digest does not match its contents",
        f"checkpoints/step-00000005.msgpack is truncated: it ends after {len(newest) // 2} bytes",
        "checkpoints/step-00000004.msgpack is empty: not a checkpoint",
    ]
    assert load(run.newest) == load(step_path(run.path, 3))
    aside = "2 checkpoints of an attempt that is given up, to step 5: now named *.given-up\n"
    assert aside in coordinator.out
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {
        "step-00000002.msgpack",
        "step-00000003.msgpack",
        "step-00000004.msgpack.given-up",
        "step-00000005.msgpack.given-up",
    }


# Killed at any moment


def hidden(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.rglob(".*") if path.is_file()]


def check_after_kill(run_dir: Path, saved: int, pruned: int) -> None:
    """The writer said that step ``saved`` is saved, and has deleted what ``pruned`` let it."""
    whole = [path for path in run_dir.rglob("*.msgpack") if not path.name.startswith(".")]
    for path in whole:
        found = load(path)
        assert found == made(found.step)
        assert path.name in ("checkpoint.msgpack", step_path(run_dir, found.step).name)
    for path in hidden(run_dir):  # what was being written: whole, or seen to be half
        with contextlib.suppress(CheckpointError):
            assert load(path) == made(load(path).step)
    newest = find_newest(run_dir)
    assert newest is not None
    assert newest.passed_over == ()
    assert newest.checkpoint.step in (saved, saved + 1), "what was saved is there"
    steps = [load(path).step for path in whole if path.parent != run_dir]
    assert saved in steps
    entries = [entry_of(made(step)) for step in steps if step <= pruned]
    assert RULES.to_delete(entries, pruned) == []


@pytest.mark.parametrize(
    ("killed", "written"), [(5, 60), pytest.param(60, 3000, marks=pytest.mark.soak)]
)
@pytest.mark.timeout(900)  # of a crowded machine or a slow disk; a short one takes three seconds
def test_a_writer_killed_at_any_moment(tmp_path: Path, killed: int, written: int) -> None:
    """At least so many times, and writes; what the operating system has been told stays."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    helper = subprocess.Popen(
        [sys.executable, "-m", "tests.crash_writer"], cwd=ROOT, bufsize=0,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert helper.stdin is not None
    assert helper.stdout is not None
    lines = iter(helper.stdout.readline, b"")
    write(tmp_path, made(0))
    saved, pruned, kills, leftovers = 0, 0, 0, 0
    try:
        while kills < killed or saved < written or not leftovers:  # a kill has hit a write
            helper.stdin.write(f"{tmp_path} {saved + 1}\n".encode())
            child = int(next(lines))
            killer = threading.Timer(rng.uniform(0.0, 0.3), os.kill, (child, signal.SIGKILL))
            killer.start()
            said = [saved]
            for line in lines:
                if line == b"dead\n":
                    break
                said.append(int(line))
            killer.join()
            kills += 1
            if len(said) > 2:  # before it wrote the last one, it deleted for the one before
                pruned = said[-2]
            check_after_kill(tmp_path, said[-1], pruned)
            leftovers += len(hidden(tmp_path))
            remove_leftovers(tmp_path)
            assert hidden(tmp_path) == []
            found = find_newest(tmp_path)
            assert found is not None
            saved = found.checkpoint.step
    finally:
        helper.stdin.close()
        helper.kill()
        helper.wait()
        helper.stdout.close()
    print(json.dumps({"kills": kills, "writes": saved, "leftovers": leftovers}))
