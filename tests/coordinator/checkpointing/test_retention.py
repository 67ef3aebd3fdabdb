"""Which checkpoints stay: the rules, and what is deleted by them from real directories."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.checkpointing.retention import Entry, Retention
from coordinator.checkpointing.writer import (
    CheckpointWriter,
    Pruner,
    entry_of,
    find_newest,
    step_path,
    write,
)
from coordinator.core.actions import Save
from coordinator.core.event_text import describe
from coordinator.core.events import DeletionFailed, DeletionRecovered, Event
from coordinator.core.inputs import Saved
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Validation, load
from microgpt.training import from_checkpoint
from tests.coordinator.checkpointing.test_checkpoint_writer import await_report
from tests.processes import eventually
from tests.tiny import make_tiny

TINY = make_tiny()
STEPS = range(0, 1001, 100)


def kept(rules: Retention, entries: Iterable[Entry], newest: int) -> list[int]:
    entries = list(entries)
    deleted = set(rules.to_delete(entries, newest))
    return [entry.step for entry in entries if entry.step not in deleted]


# The rules


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Retention(), list(STEPS)),
        (Retention(keep_last=1), [1000]),
        (Retention(keep_last=3), [800, 900, 1000]),
        (Retention(keep_last=50), list(STEPS)),
        (Retention(keep_every=500), [0, 500, 1000]),
        (Retention(keep_every=300), [0, 300, 600, 900, 1000]),
        (Retention(keep_every=7), [0, 700, 1000]),
        (Retention(keep_best=1), [400, 1000]),
        (Retention(keep_best=2), [400, 600, 1000]),
        (Retention(keep_best=3), [300, 400, 600, 1000]),
        (Retention(keep_best=9), [200, 300, 400, 600, 1000]),
        (Retention(keep_last=2, keep_every=500, keep_best=1), [0, 400, 500, 900, 1000]),
    ],
)
def test_a_checkpoint_stays_if_any_rule_keeps_it(rules: Retention, expected: list[int]) -> None:
    losses = {200: 2.75, 300: 2.5, 400: 2.25, 600: 2.25, 700: float("nan")}
    entries = [Entry(step, losses.get(step)) for step in STEPS]
    assert kept(rules, entries, 1000) == expected


def test_files_of_an_attempt_that_was_given_up_do_not_count() -> None:
    entries = [Entry(100, 3.0), Entry(200, 2.5), Entry(300, 2.0), Entry(400, 1.0)]
    rules = Retention(keep_last=1, keep_best=1)
    assert kept(rules, entries, 200) == [200, 300, 400]
    assert kept(rules, entries, 300) == [300, 400]
    assert kept(rules, entries, 400) == [400]


losses = st.none() | st.sampled_from([1.0, 1.5, 2.0]) | st.floats()
numbers = st.none() | st.integers(1, 6)


@given(
    st.dictionaries(st.integers(0, 40), losses, min_size=1), st.builds(Retention, numbers, numbers,
    numbers), st.data(),
)  # fmt: skip
def test_no_rule_is_ever_broken(
    found: dict[int, float | None], rules: Retention, data: st.DataObject
) -> None:
    newest = data.draw(st.sampled_from(sorted(found)))
    entries = [Entry(step, loss) for step, loss in found.items()]
    deleted = rules.to_delete(entries, newest)
    assert deleted == sorted(set(deleted))
    assert set(deleted) <= found.keys() - {newest}
    assert all(step < newest for step in deleted)
    shuffled = data.draw(st.permutations(entries))
    assert rules.to_delete(shuffled, newest) == deleted, "the order of files decides nothing"
    left = [entry for entry in entries if entry.step not in deleted]
    assert rules.to_delete(left, newest) == [], "what stays, stays"
    if rules.keep_best is None:  # else the best of what is left changes with nothing deleted
        fewer = Retention(rules.keep_last and max(1, rules.keep_last - 1), rules.keep_every)
        assert set(deleted) <= set(fewer.to_delete(entries, newest)) or rules.keeps_all


def test_what_may_stay_for_long_is_wanted() -> None:
    rules = Retention(keep_last=5, keep_every=50, keep_best=1)
    assert [rules.wants(Entry(step)) for step in (0, 49, 50)] == [True, False, True]
    assert rules.wants(Entry(49, 2.0))
    assert not Retention(keep_last=5).wants(Entry(50, 2.0))


def test_a_validation_loss_counts_for_its_own_step_only() -> None:
    assert entry_of(TINY) == Entry(5)
    assert entry_of(replace(TINY, validation=Validation(4, 2.0))) == Entry(5)
    assert entry_of(replace(TINY, validation=Validation(5, 2.0))) == Entry(5, 2.0)


# Real directories


def made(step: int, loss: float | None = None, run: str = "tiny") -> Checkpoint:
    validation = None if loss is None else Validation(step, loss)
    return replace(TINY, step=step, validation=validation, run=run)


def steps(run_dir: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in (run_dir / "checkpoints").glob("step-*.msgpack"))


def prune(run_dir: Path, rules: Retention, step: int, **more: Any) -> None:
    """As a coordinator does that has just been started and reached this step."""
    written = made(step, **more)
    write(run_dir, written)
    Pruner(run_dir, rules, lambda: False).prune(written)


def test_a_restarted_coordinator_knows_the_older_files(tmp_path: Path) -> None:
    for step, loss in {0: None, 10: 2.0, 20: 1.5, 30: 1.75, 40: None}.items():
        write(tmp_path, made(step, loss))
    prune(tmp_path, Retention(keep_last=2, keep_best=1), 50, loss=1.6)
    assert steps(tmp_path) == [20, 40, 50]
    prune(tmp_path, Retention(keep_last=1, keep_best=2), 60)
    assert steps(tmp_path) == [20, 50, 60]


def test_damaged_and_foreign_files_do_not_count_and_are_left_alone(tmp_path: Path) -> None:
    for step in range(0, 60, 10):
        write(tmp_path, made(step, run="another" if step == 10 else "tiny"))
    whole = step_path(tmp_path, 50).read_bytes()
    step_path(tmp_path, 50).write_bytes(whole[:-9])
    step_path(tmp_path, 40).write_bytes(b"")
    step_path(tmp_path, 30).write_bytes(step_path(tmp_path, 20).read_bytes())  # of another step
    prune(tmp_path, Retention(keep_last=2), 60)
    assert steps(tmp_path) == [10, 20, 30, 40, 50, 60]
    prune(tmp_path, Retention(keep_last=1), 70)
    assert steps(tmp_path) == [10, 30, 40, 50, 70]


def test_later_files_of_an_attempt_that_was_given_up_stay_until_the_run_is_there(
    tmp_path: Path,
) -> None:
    for step in (100, 200, 300):
        write(tmp_path, made(step, loss=1.0))
    step_path(tmp_path, 300).write_bytes(b"not even read")
    rules = Retention(keep_last=2, keep_best=1)
    prune(tmp_path, rules, 150, loss=2.0)
    assert steps(tmp_path) == [100, 150, 200, 300]
    prune(tmp_path, rules, 250)
    assert steps(tmp_path) == [100, 200, 250, 300]


@pytest.mark.parametrize("how", ["truncated", "flipped", "of another step", "gone"])
def test_nothing_is_deleted_if_the_newest_does_not_read_back(tmp_path: Path, how: str) -> None:
    for step in (10, 20, 30):
        write(tmp_path, made(step))
    path = step_path(tmp_path, 30)
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[:100])
    elif how == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "of another step":
        path.write_bytes(step_path(tmp_path, 20).read_bytes())
    else:
        path.unlink()
    before = steps(tmp_path)
    with pytest.raises(CheckpointError, match="step-00000030"):
        Pruner(tmp_path, Retention(keep_last=1), lambda: False).prune(made(30))
    assert steps(tmp_path) == before
    found = find_newest(tmp_path)
    assert found is not None
    assert found.checkpoint.step == (30 if how == "gone" else 20)


def test_what_does_not_read_back_never_counts_later(tmp_path: Path) -> None:
    pruner = Pruner(tmp_path, Retention(keep_last=2), lambda: False)
    for step in (10, 20, 30, 40):
        write(tmp_path, made(step))
        if step == 30:
            step_path(tmp_path, step).write_bytes(b"")
            with pytest.raises(CheckpointError):
                pruner.prune(made(step))
        else:
            pruner.prune(made(step))
    assert steps(tmp_path) == [20, 30, 40], "two good ones"


def test_there_is_no_time_for_old_files_when_the_run_ends(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write(tmp_path, made(step))
    Pruner(tmp_path, Retention(keep_last=1), lambda: True).prune(made(30))
    assert steps(tmp_path) == [10, 20, 30]


def test_strange_names_are_nobodys_business(tmp_path: Path) -> None:
    write(tmp_path, made(10))
    names = [
        "step-10.msgpack", "step-000000010.msgpack", "step-0000001\u0660.msgpack", "x.msgpack",
        "step-00000010.msgpack.bak", ".step-00000010.msgpack.ab12", "step-00000002.json",
    ]  # fmt: skip
    for name in names:
        (tmp_path / "checkpoints" / name).write_bytes(step_path(tmp_path, 10).read_bytes())
    prune(tmp_path, Retention(keep_last=1), 20)
    assert set(os.listdir(tmp_path / "checkpoints")) == {*names, "step-00000020.msgpack"}


# The writer


def test_a_run_with_all_rules_keeps_what_they_say(tmp_path: Path) -> None:
    """Over three lives of a coordinator, and one that goes back."""
    rules = Retention(keep_last=2, keep_every=25, keep_best=2)
    rng = random.Random(3)
    loss = {step: rng.choice([1.0, 1.25, 1.5, 2.0]) for step in range(0, 200, 10)}
    present: dict[int, Checkpoint] = {}
    for first, last in ((0, 60), (60, 100), (40, 160)):
        reported: list[Saved | Event] = []
        writer = CheckpointWriter(
            tmp_path, lambda state: made(state.step, loss.get(state.step)), reported.append, rules
        )
        writer.hurry()
        for step in range(first, last, 5):
            writer.submit(Save(from_checkpoint(made(step))))
            await_report(reported, step)
            present[step] = made(step, loss.get(step))
        writer.close(30.0)
        assert reported == [Saved(step) for step in range(first, last, 5)]
        later = [step for step in present if step >= last]
        reached = sorted(step for step in present if step < last)
        best = sorted((loss[step], step) for step in reached if step in loss)[:2]
        wanted = {*reached[-2:], *(step for _, step in best), *later}
        wanted |= {step for step in reached if step % 25 == 0}
        assert steps(tmp_path) == sorted(wanted)
        present = {step: present[step] for step in wanted}
        assert load(tmp_path / "checkpoint.msgpack") == made(last - 5, loss.get(last - 5))


def test_files_that_cannot_be_deleted_are_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = True
    unlink, refused = os.unlink, set[str]()

    def refuse(path: Any, **more: Any) -> None:
        if read_only and "step-" in str(path):
            refused.add(Path(path).stem)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refuse)
    reported: list[Saved | Event] = []
    writer = CheckpointWriter(
        tmp_path, lambda state: made(state.step), reported.append, Retention(keep_last=1)
    )
    writer.hurry()
    for step in range(6):
        if step == 5:
            eventually(lambda: "step-00000003" in refused, "the deletions after step 4 fail")
            read_only = False
        writer.submit(Save(from_checkpoint(made(step))))
        await_report(reported, step)
    writer.close(30.0)
    first, last = (report for report in reported if not isinstance(report, Saved))
    assert isinstance(first, DeletionFailed)
    assert first.warning
    assert "step-00000000.msgpack cannot be deleted: Read-only file system" in first.reason
    assert last == DeletionRecovered(5)
    assert describe(last) == "old checkpoints are deleted again"
    assert steps(tmp_path) == [5]
