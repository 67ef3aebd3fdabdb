"""Real runs under conditions: what they meet is brought about and recorded, and changes no bits."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest

import microgpt
from coordinator.core.events import Answered, Condition, ConditionChange, Expelled, Started
from microgpt.checkpoint.format import load
from tests.marks import soak
from tests.processes import TINY, TINY_MODEL, Lab, eventually, session_members
from tests.system.test_system_workers import find_child, signal_process

SIZE = (*TINY, "--data", "embedded", "--engine", "scalar", "--batch-size", "8", "--steps", "20")


@pytest.fixture(scope="module")
def quiet() -> str:
    """The digest of the same training in this process."""
    settings: dict[str, Any] = {"steps": 20, "batch_size": 8, "engine": "scalar", **TINY_MODEL}
    return microgpt.train("embedded", **settings).checkpoint.state_sha256


def test_a_run_under_bad_conditions_ends_with_the_same_bits(lab: Lab, quiet: str) -> None:
    lab.slow_down(0.01)  # else it is over before a worker has failed
    given = [
        "--link", "latency=2ms,jitter=1ms,loss=0.1%", "--link", "worker=2:bandwidth=10Mbit",
        "--fail", "mtbf=400ms,mttr=50ms",
    ]  # fmt: skip
    train = lab.train(*SIZE, "--workers", "2", *given)
    assert train.wait() == 0, train.err
    assert load(lab.run_dir().newest).state_sha256 == quiet
    texts = [f"{flag} {text}" for flag, text in zip(given[::2], given[1::2], strict=True)]
    config = json.loads((lab.run_dir().path / "config.json").read_text())
    assert config["conditions"] == texts
    assert config["settings"]["bind"].startswith("tcp://127.0.0.1:")
    told = lab.run_dir().events(Condition)
    assert [event.text for event in told if event.change == ConditionChange.SET] == texts
    changes = Counter(event.change for event in told)
    assert changes[ConditionChange.KILLED] >= 1
    assert 0 <= changes[ConditionChange.KILLED] - changes[ConditionChange.RETURNED] <= 2
    assert "was killed (SIGKILL)" not in train.err, "it is no accident"
    eventually(lambda: not session_members(train.pid), "all its processes are gone")


@pytest.mark.parametrize("policy", [soak("restart"), "elastic"])
def test_all_start_again_from_the_last_checkpoint(lab: Lab, quiet: str, policy: str) -> None:
    lab.slow_down(0.02)
    given = ("--fail", "worker=2:mtbf=4s,mttr=100ms", "--checkpoint-every", "2")  # after 0.44 s
    train = lab.train(*SIZE, "--workers", "2", *given, "--on-failure", policy)
    assert train.wait() == 0, train.err
    assert load(lab.run_dir().newest).state_sha256 == quiet
    started = lab.run_dir().events(Started)
    killed = [
        event for event in lab.run_dir().events(Condition) if event.change == ConditionChange.KILLED
    ]
    assert len(started) == len(killed) + 1 >= 2, "a coordinator for each death"
    assert len({event.epoch for event in started}) == len(started)
    assert [event.version % 2 for event in started] == [0] * len(started)
    assert {event.text for event in killed} == {"--fail mtbf=4s,mttr=0.1s"}
    assert "was killed (SIGKILL)" not in train.err
    eventually(lambda: not session_members(train.pid), "all its processes are gone")


@pytest.mark.soak
def test_any_death_restarts_all_where_that_is_wanted(lab: Lab, quiet: str) -> None:
    lab.slow_down(0.02)
    train = lab.train(*SIZE, "--workers", "2", "--checkpoint-every", "2", "--on-failure", "restart")
    lab.run_dir().happens("ready")
    signal_process(find_child(train, "worker-1"), signal.SIGKILL)
    assert train.wait() == 0, train.err
    assert "was killed (SIGKILL); starting it again" in train.err
    assert len(lab.run_dir().events(Started)) == 2
    assert load(lab.run_dir().newest).state_sha256 == quiet


def test_a_slow_worker_does_fewer_documents(lab: Lab, quiet: str) -> None:
    lab.slow_down(0.002)
    flags = ("--workers", "2", "--slow", "worker=2:120x", "--events", "full", "--shard-size", "1")
    train = lab.train(*SIZE, *flags)
    assert train.wait() == 0, train.err
    assert load(lab.run_dir().newest).state_sha256 == quiet
    done = Counter[str]()
    for answered in lab.run_dir().events(Answered):
        done[answered.name] += answered.count
    assert done["worker-1"] > 3 * done["worker-2"]


def test_what_is_no_condition_starts_nothing(lab: Lab) -> None:
    train = lab.train("--workers", "2", "--slow", "worker=3:2x")
    assert train.wait() == 1
    said = "--slow 'worker=3:2x': there is no worker '3': they are numbered 1 to 2"
    assert train.err == f"error: {said}\n"
    other = lab.train("--link", "latency=1ms", "--bind", "ipc:///nowhere/at-all")
    assert other.wait() == 1
    assert other.err.startswith("error: --link needs an address that bytes reach by TCP")
    assert not lab.run_dir().path.exists()


def test_a_liar_is_found_where_all_is_verified_and_changes_no_bit(lab: Lab, quiet: str) -> None:
    lab.slow_down(0.05)  # else the honest worker is done before the other one has come
    size = [word for word in SIZE if word not in ("--engine", "scalar")]
    coordinator = lab.coordinator(*size, "--verify-fraction", "1", "--shard-size", "2")
    address = lab.run_dir().endpoint()
    lab.worker(address, "--name", "honest")
    lab.run_dir().happens("ready")  # a liar on its own would be believed
    liar = lab.worker(address, "--name", "liar", "--lie", "noise", "1")
    liar.expected = True
    assert coordinator.wait() == 0, coordinator.err
    assert load(lab.run_dir().newest).state_sha256 == quiet
    assert [event.name for event in lab.run_dir().events(Expelled)] == ["liar"]
    assert liar.wait() == 1
    assert "the coordinator refuses this worker" in liar.err


@pytest.mark.soak
def test_a_liar_that_nobody_compares_spoils_the_run(lab: Lab, quiet: str) -> None:
    train = lab.train(*SIZE, "--workers", "1", "--byzantine", "sign-flip", "--compress", "f32")
    assert train.wait() == 0, train.err
    losses = [line["loss"] for line in lab.run_dir().metrics]
    assert losses[-1] > losses[0]
    assert load(lab.run_dir().newest).state_sha256 != quiet
