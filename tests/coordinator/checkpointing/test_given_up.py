"""No start goes on from a file of an attempt that was given up, whatever else is damaged."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.checkpointing.given_up import set_aside
from coordinator.checkpointing.writer import find_newest, step_path, write
from tests.coordinator.checkpointing.test_retention import made


def names(run_dir: Path) -> list[str]:
    return sorted(os.listdir(run_dir / "checkpoints"))


def test_a_damaged_checkpoint_leads_to_no_file_that_was_given_up(tmp_path: Path) -> None:
    for step in (0, 2, 4, 6):
        write(tmp_path, made(step))
    assert set_aside(tmp_path, 2, made(2).next_document) == [4, 6]
    assert names(tmp_path) == [
        "step-00000000.msgpack",
        "step-00000002.msgpack",
        "step-00000004.msgpack.given-up",
        "step-00000006.msgpack.given-up",
    ]
    write(tmp_path, made(3), copies=True)
    (tmp_path / "checkpoint.msgpack").write_bytes(b"damaged")
    found = find_newest(tmp_path)
    assert found is not None
    assert (found.path, found.checkpoint) == (step_path(tmp_path, 3), made(3))


def test_it_stays_until_the_run_writes_that_step_again(tmp_path: Path) -> None:
    for step in (0, 2, 4):
        write(tmp_path, made(step))
    set_aside(tmp_path, 0, made(0).next_document)
    write(tmp_path, made(2))
    assert names(tmp_path) == [
        "step-00000000.msgpack",
        "step-00000002.msgpack",
        "step-00000004.msgpack.given-up",
    ]
    write(tmp_path, made(4))
    assert names(tmp_path) == [f"step-0000000{step}.msgpack" for step in (0, 2, 4)]


@pytest.mark.parametrize(("more", "aside"), [(-1, []), (0, []), (1, [2])])
def test_a_file_of_the_same_step_after_more_documents_is_later(
    tmp_path: Path, more: int, aside: list[int]
) -> None:
    used = made(2).next_document
    write(tmp_path, replace(made(2), next_document=used + more))
    assert set_aside(tmp_path, 2, used) == aside


def test_nothing_is_later(tmp_path: Path) -> None:
    assert set_aside(tmp_path, 0, 0) == [], "there is no folder yet"
    for step in (0, 2):
        write(tmp_path, made(step))
    step_path(tmp_path, 2).write_bytes(b"damaged: people should decide")
    before = names(tmp_path)
    assert set_aside(tmp_path, 2, made(2).next_document) == []
    assert names(tmp_path) == before
