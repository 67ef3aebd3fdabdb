"""The processes of a run under faults: how they end when they are told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.faults.fleet import EXPECTED, Member
from microgpt.support.isolation import isolated


@pytest.mark.parametrize(
    "command",
    [
        isolated("worker", "--connect", "tcp://127.0.0.1:9"),
        isolated("coordinator", "--run-dir", "run"),
    ],
    ids=["worker", "coordinator"],
)
def test_who_is_told_to_stop_before_its_first_line_still_ends_as_programs_do(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    member = Member("member", command, tmp_path / "log")
    member.start()
    process = member.process
    assert process is not None
    process.terminate()  # Python itself has not started yet
    try:
        assert process.wait(60) == 143
    finally:
        member.kill()
    assert process.returncode in EXPECTED
    assert (tmp_path / "log").read_text() == ""
