"""What the supervisor is told of the conditions: addresses, flags, and when a worker fails."""

from __future__ import annotations

import os
import socket
from itertools import pairwise

import pytest

from coordinator.core.events import Condition
from coordinator.run.laboratory import Laboratory
from lab.condition_texts import read_conditions
from lab.conditions import Conditions
from lab.launch.surroundings import ANY_PORT, Surroundings
from microgpt.support.cli import UserError
from tests.processes import eventually


def test_without_conditions_nothing_is_different() -> None:
    with Surroundings(Conditions(), 42) as around:
        assert around.bind(None) is None
        assert around.bind("ipc:///somewhere") == "ipc:///somewhere"
        (news,) = around.descriptors
        assert around.coordinator_flags() == ["--news", str(news)]
        assert around.worker_flags(1) == []
        assert around.address(1, "ipc:///somewhere") == "ipc:///somewhere"
        assert around.seconds_to_failure(1) is None
        assert around.seconds_to_return(1) is None


def test_a_link_needs_tcp() -> None:
    with Surroundings(read_conditions(2, link=["latency=1ms"]), 42) as around:
        assert around.bind(None) == ANY_PORT
        assert around.bind("tcp://127.0.0.1:5555") == "tcp://127.0.0.1:5555"
        with pytest.raises(UserError, match="--bind is ipc:///somewhere: leave it out"):
            around.bind("ipc:///somewhere")


def test_each_worker_with_a_link_has_a_proxy_that_ends_with_the_run() -> None:
    conditions = read_conditions(3, link=["latency=1ms", "worker=3:latency=0s"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with Surroundings(conditions, 42) as around:
            first, second = around.address(1, coordinator), around.address(2, coordinator)
            assert len({first, second, coordinator}) == 3
            assert around.address(1, coordinator) == first
            assert around.address(3, coordinator) == coordinator
            place = ("127.0.0.1", int(first.rpartition(":")[2]))
            with socket.create_connection(place, timeout=10) as worker, server.accept()[0] as end:
                worker.sendall(b"hello")
                assert end.recv(5, socket.MSG_WAITALL) == b"hello"
        with pytest.raises(OSError):  # noqa: PT011  # refused, or reset
            socket.create_connection(place, timeout=10)


def test_flags_of_workers() -> None:
    conditions = read_conditions(3, slow=["worker=2:2.5x"], byzantine=["worker=3:ipm"])
    with Surroundings(conditions, 42) as around, Surroundings(conditions, 43) as other:
        assert around.worker_flags(1) == []
        assert around.worker_flags(2) == ["--slowness", "2.5"]
        assert around.worker_flags(3)[:2] == ["--lie", "ipm"]
        assert around.worker_flags(3) == around.worker_flags(3) != other.worker_flags(3)


def test_failures_are_drawn_from_the_seed_and_told_to_the_coordinator() -> None:
    conditions = read_conditions(2, fail=["worker=2:mtbf=10s,mttr=2s"])

    def times(seed: int) -> list[float]:
        with Surroundings(conditions, seed) as around:
            return [around.seconds_to_failure(2) or 0.0 for _ in range(2000)]

    drawn = times(42)
    assert times(42) == drawn != times(43)
    assert all(one != other for one, other in pairwise(drawn))
    assert 9.0 < sum(drawn) / len(drawn) < 11.0
    told: list[str] = []
    with Surroundings(conditions, 42) as around:
        assert around.seconds_to_failure(1) is None
        assert around.seconds_to_return(2) is None, "it has ended by itself"
        around.killed(2, "worker-2")
        around.kills(2)
        around.killed(2, "worker-2")
        assert around.seconds_to_return(2) == 2.0
        around.starts(2, "worker-2")
        assert around.seconds_to_return(2) is None
        around.starts(1, "worker-1")
        flags = around.coordinator_flags()
        assert flags[:2] == ["--condition", "--fail worker=2:mtbf=10s,mttr=2s"]
        assert around.descriptors == (int(flags[3]),)
        news = os.dup(int(flags[3]))
    Laboratory((flags[1],), news).begin(
        lambda event: (
            told.append(f"{event.change} {event.name} {event.text}")
            if isinstance(event, Condition)
            else None
        )
    )
    eventually(lambda: len(told) == 3, "the news are heard")
    os.close(news)
    assert told == [
        "set  --fail worker=2:mtbf=10s,mttr=2s",
        "killed worker-2 --fail mtbf=10s,mttr=2s",
        "returned worker-2 --fail mtbf=10s,mttr=2s",
    ]
