"""The processes of a run under faults: how they end when they are told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.faults.fleet import EXPECTED, Fleet, Member, Plan, address_of
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


def flag(member: Member, name: str) -> str:
    return member.command[member.command.index(name) + 1]


def test_workers_are_below_aggregators_by_turns_and_all_of_them_can_be_hit(tmp_path: Path) -> None:
    fleet = Fleet(Plan(tmp_path, 3, aggregators=2))
    try:
        names = ["worker-1", "worker-2", "worker-3", "aggregator-1", "aggregator-2"]
        assert [member.name for member in fleet.below] == names
        assert [flag(member, "--connect") for member in fleet.below] == [
            proxy.address for proxy in fleet.proxies
        ]
        above = [address_of(proxy._target) for proxy in fleet.proxies]
        first, second = (flag(member, "--bind") for member in fleet.aggregators)
        assert above == [first, second, first, address_of(fleet.target), address_of(fleet.target)]
    finally:
        fleet.close()
