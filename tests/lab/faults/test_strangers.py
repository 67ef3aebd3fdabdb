"""The verdict of ``scripts/chaos.py strangers``, and the tools that it uses."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.faults import zmtp
from lab.faults.attackers import Attack, Target, endless, garbage, half_open, pings, raw_flood
from lab.faults.fleet import Member
from lab.faults.proxy import Proxy
from lab.faults.stage import UNITS, Victim
from lab.faults.strangers import MOST_GROWTH, Outcome, judge
from microgpt.checkpoint.format import load
from microgpt.protocol.messages import MAX_MESSAGE_BYTES
from tests.processes import TINY_VARIABLES, Lab

MIB = 1 << 20
MEMORY = {"coordinator": 150 * MIB, "worker-1": 100 * MIB, "follower": 50 * MIB}
CALM = Outcome("a", 100, 10.0, MEMORY, {}, (), ())
ATTACKED = replace(CALM, seconds=15.0, done=dict.fromkeys(UNITS, 3))


def missed(calm: Outcome, attacked: Outcome) -> list[str]:
    return [row.what for row in judge(calm, attacked, 100, 0.5) if row.good is not True]


def test_everything_is_as_promised() -> None:
    assert missed(CALM, ATTACKED) == []


@pytest.mark.parametrize(
    ("attacked", "what"),
    [
        (replace(ATTACKED, ended=("coordinator",)), "processes that ended, run under attack"),
        (replace(ATTACKED, complaints=("x",)), "tracebacks and standstills, run under attack"),
        (replace(ATTACKED, seconds=20.1), "throughput under attack"),
        (replace(ATTACKED, state_sha256="b"), "state_sha256 at the end"),
        (replace(ATTACKED, steps=99), "state_sha256 at the end"),
    ],
)
def test_whatever_is_not_as_promised_is_named(attacked: Outcome, what: str) -> None:
    assert missed(CALM, attacked) == [what]


@pytest.mark.parametrize(("seconds", "what"), [(61.0, ["attack pings"]), (59.0, [])])
def test_every_attack_finds_something_to_do_within_a_minute(
    seconds: float, what: list[str]
) -> None:
    calm = replace(CALM, seconds=0.9 * seconds)
    done = {**ATTACKED.done, "pings": 0}
    assert missed(calm, replace(ATTACKED, seconds=seconds, done=done)) == what


@pytest.mark.parametrize(
    ("name", "sibling"),
    [
        ("coordinator", "coordinator"),
        ("worker of the hostile server", "worker-1"),
        ("follower of the hostile server", "follower"),
    ],
)
def test_memory_is_compared_with_the_quiet_run(name: str, sibling: str) -> None:
    more = MAX_MESSAGE_BYTES if name.startswith("worker of") else 0
    most = MEMORY[sibling] + MOST_GROWTH + more
    assert missed(CALM, replace(ATTACKED, memory={name: most})) == []
    assert missed(CALM, replace(ATTACKED, memory={name: most + 1})) == [
        f"memory of {name} at its highest"
    ]


def test_two_runs_without_a_state_are_not_the_same() -> None:
    empty = replace(CALM, state_sha256="")
    assert missed(empty, replace(ATTACKED, state_sha256="")) == ["state_sha256 at the end"]


@pytest.mark.parametrize(
    ("code", "said", "good"),
    [
        (0, "ends: no coordinator", True),
        (1, "error: the coordinator cannot be understood", True),
        (1, "nothing to speak of", False),
        (1, "Traceback (most recent call last):\nerror: x", False),
        (-6, "error: x", False),
        (134, "error: x", False),
    ],
)
def test_how_victims_may_end(tmp_path: Path, code: int, said: str, good: bool) -> None:
    log = tmp_path / "log"
    log.write_text(said + "\n")
    victim = Victim(Member("victim", [], log))
    assert (victim.judge(code) == "") == good
    log.write_text(said + "\nends\n")  # what it said before is judged no more
    assert victim.judge(0) == ""
    assert victim.ends == 2


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_frozen_connection_says_nothing_until_it_is_calm_and_a_new_one_passes(
    listener: socket.socket,
) -> None:
    with Proxy(("127.0.0.1", listener.getsockname()[1])) as proxy:
        host, _, port = proxy.address.removeprefix("tcp://").partition(":")

        def connect() -> tuple[socket.socket, socket.socket]:
            client = socket.create_connection((host, int(port)), timeout=10)
            server, _ = listener.accept()
            server.settimeout(10)
            return client, server

        old_client, old_server = connect()
        with old_client, old_server:
            old_client.sendall(b"before")
            assert zmtp.read_exactly(old_server, 6) == b"before"
            proxy.freeze()
            old_client.sendall(b"frozen")
            new_client, new_server = connect()
            with new_client, new_server:
                new_client.sendall(b"passes")
                assert zmtp.read_exactly(new_server, 6) == b"passes"
            old_server.setblocking(False)
            with pytest.raises(BlockingIOError):
                old_server.recv(6)
            old_server.settimeout(10)
            proxy.calm()
            assert zmtp.read_exactly(old_server, 6) == b"frozen"


@pytest.mark.parametrize("attack", [garbage, half_open, raw_flood, pings, endless])
def test_a_round_ends_where_nobody_listens(attack: Attack, listener: socket.socket) -> None:
    target = Target("127.0.0.1", listener.getsockname()[1])
    listener.close()
    with pytest.raises(OSError, match="refused"):
        list(attack(random.Random(1), target))


SIZE = {**TINY_VARIABLES, "MICROGPT_BATCH_SIZE": "8"}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_all_attacks_at_once_leave_the_processes_the_memory_and_the_bits(lab: Lab) -> None:
    # What remains of the pace says little in so short a time on a machine that is busy.
    flags = ("--minutes", "0.15", "--seed", "7", "--least", "0.001", "--keep", "kept")
    more = ("--engine", "scalar", "--data", str(lab.data), "--json", "verdict.json")
    lab.slow_down(0.01)
    chaos = lab.script("chaos", "strangers", *flags, *more, **SIZE)
    assert chaos.wait(220) == 0, chaos.out + chaos.err
    runs = [load(lab.place / "kept" / n / "checkpoint.msgpack") for n in ("quiet", "attacked")]
    assert runs[0].state_sha256 == runs[1].state_sha256
    assert chaos.out.rstrip().endswith(f"the same bits: state_sha256 {runs[0].state_sha256}")
    rows = {
        row["what"]: row for row in json.loads((lab.place / "verdict.json").read_text())["rows"]
    }
    assert {what for what in rows if what.startswith("attack ")} == {f"attack {k}" for k in UNITS}
    assert "memory of coordinator at its highest" in rows
    assert all(row["good"] for row in rows.values())
