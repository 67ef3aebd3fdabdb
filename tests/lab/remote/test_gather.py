"""Putting a fetched checkpoint together from parts that anybody may have sent."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordinator.checkpointing.index import CheckpointIndex
from coordinator.checkpointing.writer import step_path
from microgpt.checkpoint.format import MAX_BYTES
from microgpt.protocol.messages import MAX_PART, CheckpointPart
from tests.processes import ROOT

if TYPE_CHECKING:
    from lab.remote import chunk_assembler
else:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        from lab.remote import chunk_assembler


def part(step: int, total: int, offset: int, size: int) -> CheckpointPart:
    return CheckpointPart("run", "epoch", 1, step, total, offset, bytes(size))


@pytest.mark.parametrize("size", [1, MAX_PART - 1, MAX_PART, MAX_PART + 1, 4 * MAX_PART])
@pytest.mark.parametrize("wanted", [7, None])
def test_what_the_shelf_gives_makes_the_file(tmp_path: Path, size: int, wanted: int | None) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "checkpoints").mkdir()
    step_path(tmp_path, 7).write_bytes(data)
    checkpoint_index = CheckpointIndex(tmp_path, "run", "epoch")
    checkpoint_index.newest = 7
    gathering, asked = chunk_assembler.ChunkAssembler(wanted), 0
    while not gathering.complete:
        reply = checkpoint_index.reply(gathering.question(asked))
        assert isinstance(reply, CheckpointPart)
        gathering.take(reply)
        asked += 1
        checkpoint_index.newest = 9  # from the second part on, the step is that of the first
    assert (gathering.step, gathering.data) == (7, data)
    assert asked == -(-size // MAX_PART)


def test_questions_name_the_step_and_how_far_we_are() -> None:
    gathering = chunk_assembler.ChunkAssembler(known=3)
    question = gathering.question(5)
    assert (question.number, question.wanted, question.offset, question.known) == (5, None, 0, 3)
    gathering.take(part(4, 2 * MAX_PART, 0, MAX_PART))
    question = gathering.question(6)
    assert (question.number, question.wanted, question.offset) == (6, 4, MAX_PART)
    assert not gathering.complete


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (part(8, 10, 0, 10), "another step"),
        (part(7, 0, 0, 0), "no checkpoint has 0 bytes"),
        (part(7, MAX_BYTES + 1, 0, MAX_PART), "no checkpoint has"),
        (part(7, 1 << 62, 0, MAX_PART), "no checkpoint has"),
        (part(7, 10, 5, 5), "not asked for"),
        (part(7, 10, 0, 9), "wrong size"),
        (part(7, 10, 0, 11), "wrong size"),
        (part(7, 10, 0, 0), "wrong size"),
        (part(7, MAX_PART + 1, 0, MAX_PART - 1), "wrong size"),
    ],
)
def test_first_parts_that_are_not_believed(reply: CheckpointPart, complaint: str) -> None:
    gathering = chunk_assembler.ChunkAssembler(7)
    with pytest.raises(chunk_assembler.BrokenReplyError, match=complaint):
        gathering.take(reply)
    assert not gathering.complete


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (part(8, MAX_PART + 5, MAX_PART, 5), "not asked for"),
        (part(7, MAX_PART + 5, 0, MAX_PART), "not asked for"),
        (part(7, MAX_PART + 5, MAX_PART + 1, 4), "not asked for"),
        (part(7, MAX_PART + 5, MAX_PART, 4), "wrong size"),
        (part(7, MAX_PART + 5, MAX_PART, 6), "wrong size"),
        (part(7, MAX_PART + 5, MAX_PART, 0), "wrong size"),
    ],
)
def test_further_parts_that_are_not_believed(reply: CheckpointPart, complaint: str) -> None:
    gathering = chunk_assembler.ChunkAssembler()
    gathering.take(part(7, MAX_PART + 5, 0, MAX_PART))
    with pytest.raises(chunk_assembler.BrokenReplyError, match=complaint):
        gathering.take(reply)


def test_a_file_that_has_changed_is_fetched_anew() -> None:
    gathering = chunk_assembler.ChunkAssembler()
    gathering.take(part(7, MAX_PART + 5, 0, MAX_PART))
    with pytest.raises(chunk_assembler.LaterError, match="step 7 has been written anew"):
        gathering.take(part(7, MAX_PART + 6, MAX_PART, 6))
