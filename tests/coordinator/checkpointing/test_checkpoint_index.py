"""What the coordinator replies to questions about checkpoints: real files, no sockets."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from coordinator.checkpointing import index as shelves
from coordinator.checkpointing.index import CheckpointIndex, look_into
from coordinator.checkpointing.writer import step_path, stored_steps
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.container import BEGINNING, seal
from microgpt.checkpoint.format import Validation
from microgpt.protocol.messages import (
    MAX_PART,
    NOT_LOOKED_INTO,
    CheckpointList,
    CheckpointPart,
    FetchCheckpoint,
    ListCheckpoints,
    NoCheckpoint,
    Stored,
    decode,
    encode,
)
from tests.hostile_files import BOMBS, mutations
from tests.tiny import make_tiny

TINY = make_tiny()
#: More than three parts.
LARGE = random.Random(1).randbytes(3 * MAX_PART + 17)


@pytest.fixture
def checkpoint_index(tmp_path: Path) -> CheckpointIndex:
    """Steps 5 and 10 of a run that was at step 15 before, and at 10 now."""
    (tmp_path / "checkpoints").mkdir()
    for step in (5, 10, 15):
        checkpoint_format.save(step_path(tmp_path, step), replace(TINY, step=step))
    checkpoint_index = CheckpointIndex(tmp_path, "run", "epoch")
    checkpoint_index.newest = 10
    return checkpoint_index


def fetch(
    checkpoint_index: CheckpointIndex, wanted: int | None, offset: int = 0, known: int | None = None
) -> CheckpointPart | NoCheckpoint:
    reply = checkpoint_index.reply(FetchCheckpoint("", "", 3, wanted, offset, known))
    assert (reply.run, reply.epoch, reply.number) == ("run", "epoch", 3)
    assert decode(encode(reply), longest_list=0) == reply
    assert isinstance(reply, CheckpointPart | NoCheckpoint)
    return reply


def listed(checkpoint_index: CheckpointIndex) -> CheckpointList:
    reply = checkpoint_index.reply(ListCheckpoints("", "", 4))
    assert isinstance(reply, CheckpointList)
    assert decode(encode(reply)) == reply
    return reply


# Parts


def test_before_the_first_checkpoint(checkpoint_index: CheckpointIndex) -> None:
    checkpoint_index.newest = None
    for question in (ListCheckpoints("", "", 7), FetchCheckpoint("", "", 7, 5, 0, None)):
        nothing = NoCheckpoint("run", "epoch", 7, "there is no checkpoint yet", again=True)
        assert checkpoint_index.reply(question) == nothing


def test_the_newest_is_that_of_this_run(checkpoint_index: CheckpointIndex, tmp_path: Path) -> None:
    """Not the file with the highest step, which is of an attempt that was given up."""
    data = step_path(tmp_path, 10).read_bytes()
    expected = CheckpointPart("run", "epoch", 3, 10, len(data), 0, data)
    assert fetch(checkpoint_index, None) == expected
    assert fetch(checkpoint_index, 10) == expected
    assert fetch(checkpoint_index, None, known=5) == expected
    reply = fetch(checkpoint_index, None, known=10)
    assert reply == NoCheckpoint("run", "epoch", 3, "step 10 is the newest still", again=True)
    assert fetch(checkpoint_index, 10, known=10) == expected, "it is asked for by its number"


@pytest.mark.parametrize("wanted", [0, 4, 6, 15, 1000, 1 << 62])
def test_steps_that_are_not_there(checkpoint_index: CheckpointIndex, wanted: int) -> None:
    reason = f"there is no checkpoint of step {wanted}"
    assert fetch(checkpoint_index, wanted) == NoCheckpoint("run", "epoch", 3, reason, again=False)


def test_parts_make_the_file(checkpoint_index: CheckpointIndex, tmp_path: Path) -> None:
    step_path(tmp_path, 5).write_bytes(LARGE)
    parts, offset = [], 0
    while offset < len(LARGE):
        part = fetch(checkpoint_index, 5, offset)
        assert isinstance(part, CheckpointPart)
        assert (part.step, part.total, part.offset) == (5, len(LARGE), offset)
        assert len(part.data) == min(MAX_PART, len(LARGE) - offset)
        parts.append(part.data)
        offset += len(part.data)
    assert len(parts) == 4
    assert b"".join(parts) == LARGE
    part = fetch(checkpoint_index, 5, 1)
    assert isinstance(part, CheckpointPart)
    assert part.data == LARGE[1 : 1 + MAX_PART], "any offset will do"


@pytest.mark.parametrize("offset", [len(LARGE), len(LARGE) + 1, 1 << 40, 1 << 62])
def test_offsets_behind_the_end(
    checkpoint_index: CheckpointIndex, tmp_path: Path, offset: int
) -> None:
    step_path(tmp_path, 5).write_bytes(LARGE)
    reason = f"the checkpoint of step 5 has no byte {offset}"
    assert fetch(checkpoint_index, 5, offset) == NoCheckpoint("run", "epoch", 3, reason, again=True)


def test_files_that_go_away_between_two_parts(
    checkpoint_index: CheckpointIndex, tmp_path: Path
) -> None:
    step_path(tmp_path, 5).write_bytes(LARGE)
    assert isinstance(fetch(checkpoint_index, 5), CheckpointPart)
    step_path(tmp_path, 5).unlink()
    reply = fetch(checkpoint_index, 5, MAX_PART)
    assert isinstance(reply, NoCheckpoint)
    assert reply.again, "whoever wants the newest one will find another"
    reply = fetch(checkpoint_index, 5)
    assert isinstance(reply, NoCheckpoint)
    assert not reply.again


def test_what_is_no_file_is_not_read(checkpoint_index: CheckpointIndex, tmp_path: Path) -> None:
    path = step_path(tmp_path, 5)
    for make in (os.mkfifo, os.mkdir):
        path.unlink()
        make(path)
        reply = fetch(checkpoint_index, 5)
        assert isinstance(reply, NoCheckpoint)
        assert reply.reason.startswith("the checkpoints cannot be read: ")
        assert listed(checkpoint_index).entries[0].problem == "unreadable"
        if make is os.mkdir:
            path.rmdir()
    path.write_bytes(b"")
    assert isinstance(fetch(checkpoint_index, 5), NoCheckpoint)


def test_a_directory_that_is_gone(checkpoint_index: CheckpointIndex, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").rename(tmp_path / "moved")
    reply = checkpoint_index.reply(ListCheckpoints("", "", 1))
    assert isinstance(reply, NoCheckpoint)
    assert reply.reason == "the checkpoints cannot be read: No such file or directory"
    assert not reply.again


# The list


def test_list(checkpoint_index: CheckpointIndex, tmp_path: Path) -> None:
    validated = replace(TINY, step=7, validation=Validation(6, 2.75), losses=())
    checkpoint_format.save(step_path(tmp_path, 7), validated)
    whole = step_path(tmp_path, 5).read_bytes()
    step_path(tmp_path, 8).write_bytes(whole[:1000])
    step_path(tmp_path, 9).write_bytes(whole)
    for name in ("x", "step-1.msgpack", "step-000000011.msgpack", ".step-00000011.msgpack.abc"):
        (tmp_path / "checkpoints" / name).write_bytes(whole)
    size = {step: step_path(tmp_path, step).stat().st_size for step in (5, 7, 8, 9, 10)}
    reply = listed(checkpoint_index)
    assert reply.omitted == 0
    assert reply.entries == (
        Stored(5, size[5], TINY.losses[-1], None, None, ""),
        Stored(7, size[7], None, 6, 2.75, ""),
        Stored(8, 1000, None, None, None, "truncated"),
        Stored(9, size[9], None, None, None, "of another step"),
        Stored(10, size[10], TINY.losses[-1], None, None, ""),
    )


def test_the_newest_of_many_are_listed(
    checkpoint_index: CheckpointIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "MAX_LISTED", 1)
    reply = listed(checkpoint_index)
    assert ([entry.step for entry in reply.entries], reply.omitted) == ([10], 1)


def test_files_are_looked_into_once(
    checkpoint_index: CheckpointIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def look(path: Path, step: int, size: int) -> Stored:
        looked.append(step)
        return look_into(path, step, size)

    monkeypatch.setattr(shelves, "look_into", look)
    first = listed(checkpoint_index)
    assert looked == [10, 5]
    assert listed(checkpoint_index).entries == first.entries
    assert looked == [10, 5]
    checkpoint_format.save(step_path(tmp_path, 5), replace(TINY, losses=(1.5,)))
    assert listed(checkpoint_index).entries[0].loss == 1.5
    assert looked == [10, 5, 5]
    step_path(tmp_path, 10).unlink()
    assert [entry.step for entry in listed(checkpoint_index).entries] == [5]
    assert looked == [10, 5, 5]


def test_without_time_files_are_listed_all_the_same(
    checkpoint_index: CheckpointIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = shelves.LOOK_SECONDS
    monkeypatch.setattr(shelves, "LOOK_SECONDS", -1.0)
    entries = listed(checkpoint_index).entries
    assert [(e.step, e.problem) for e in entries] == [(5, NOT_LOOKED_INTO), (10, NOT_LOOKED_INTO)]
    assert all(entry.size > 5000 for entry in entries)
    monkeypatch.setattr(shelves, "LOOK_SECONDS", usual)
    assert [entry.problem for entry in listed(checkpoint_index).entries] == ["", ""]


@pytest.mark.parametrize("step", [0, 7, 99_999_999, 100_000_000, 10**18 - 1])
def test_files_are_recognised_by_their_names(tmp_path: Path, step: int) -> None:
    (tmp_path / "checkpoints").mkdir()
    step_path(tmp_path, step).write_bytes(b"")
    assert list(stored_steps(tmp_path)) == [step]


def test_a_thousand_files(checkpoint_index: CheckpointIndex, tmp_path: Path) -> None:
    for step in range(1000):
        os.link(step_path(tmp_path, 10), tmp_path / "linked")
        os.replace(tmp_path / "linked", step_path(tmp_path, 1000 + step))
    checkpoint_index.newest = 2000
    while any(entry.problem == NOT_LOOKED_INTO for entry in listed(checkpoint_index).entries):
        pass
    began = time.thread_time()
    assert len(listed(checkpoint_index).entries) == 1003
    assert time.thread_time() - began < 0.5, "seconds of CPU"


STRANGE: list[Callable[[dict[str, Any]], object]] = [
    lambda body: body.update(losses={"x": 1}),
    lambda body: body.update(losses=[[]]),
    lambda body: body.update(losses=["x"]),
    lambda body: body.update(losses=[float("nan")]),
    lambda body: body.update(validation=[1, 2.0]),
    lambda body: body.update(validation={"step": -1, "loss": 2.0}),
    lambda body: body.update(validation={"step": 1 << 63, "loss": 2.0}),
    lambda body: body.update(validation={"step": 1, "loss": float("inf")}),
    lambda body: body.update(step="10"),
    lambda body: body.pop("losses"),
]


@pytest.mark.parametrize("change", STRANGE)
def test_strange_values_are_not_passed_on(
    checkpoint_index: CheckpointIndex, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    body = checkpoint_format.to_body(replace(TINY, step=10))
    change(body)
    step_path(tmp_path, 10).write_bytes(seal(msgpack.packb(body)))
    problem = "of another step" if body.get("step") != 10 else "damaged"
    size = step_path(tmp_path, 10).stat().st_size
    assert listed(checkpoint_index).entries[1] == Stored(10, size, None, None, None, problem)


def test_hostile_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    whole = checkpoint_format.encode(TINY)
    hostile = [*mutations(whole, 400, seed=11), *BOMBS]
    hostile += [b"\x84" + BEGINNING + bomb for bomb in BOMBS] + [seal(bomb) for bomb in BOMBS]
    for step, data in enumerate(hostile):
        step_path(tmp_path, step).write_bytes(data)
    checkpoint_index = CheckpointIndex(tmp_path, "run", "epoch")
    checkpoint_index.newest = len(hostile)
    assert sorted(stored_steps(tmp_path)) == list(range(len(hostile)))
    entries = listed(checkpoint_index).entries
    assert [entry.step for entry in entries] == list(range(len(hostile)))
    assert sum(bool(entry.problem) for entry in entries) > 300
