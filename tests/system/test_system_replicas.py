"""Replicas in real processes: the same bits whoever computes and dies; and what is refused."""

from __future__ import annotations

import signal
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

import microgpt
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint, load, save
from tests.marks import soak
from tests.processes import TINY, TINY_MODEL, Lab, RunDir, eventually
from tests.system.test_system_workers import find_child, signal_process

STEPS, BATCH = 11, 10
SIZE: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH, **TINY_MODEL, "engine": "scalar"}
SLOW = 0.004  # seconds for a document, where something happens in the middle of a run

#: What a run is made of, as a notebook says it.
RUNS: dict[str, dict[str, Any]] = {
    "topk": {"compress": "topk:0.2", "replicas": 3},
    "diloco": {"strategy": "diloco", "strategy_options": {"steps": 2}, "replicas": 2},
    "local-sgd": {
        "strategy": "local-sgd", "strategy_options": {"steps": 2}, "replicas": 3,
        "compress": "int8",
    },
    "krum": {"aggregate": "krum", "outer_optimizer": "momentum"},
}  # fmt: skip


def flags(name: str, *more: str) -> list[str]:
    """The same as flags."""
    said = [*TINY, "--data", "embedded", "--steps", str(STEPS), "--batch-size", str(BATCH)]
    for key, value in RUNS[name].items():
        if key == "strategy_options":
            said += [f"--strategy-option={option}={x}" for option, x in value.items()]
        else:
            said += ["--" + key.replace("_", "-"), str(value)]
    return [*said, "--checkpoint-every", "3", *more]


@cache
def expected(name: str) -> Checkpoint:
    """That run in this process, without a network."""
    return microgpt.train("embedded", **SIZE, **RUNS[name]).checkpoint


def ends_alike(run: RunDir, expected: Checkpoint) -> None:
    saved = load(run.newest)
    assert saved.state_sha256 == expected.state_sha256
    assert saved.training == expected.training
    assert saved.losses == expected.losses
    assert [record["step"] for record in run.metrics] == [*range(1, STEPS + 1)]
    for kind in ("expelled", "difference", "silent"):
        assert kind not in run.kinds()


@pytest.mark.parametrize(
    ("name", "workers", "engine"),
    [
        ("krum", 3, "scalar"),  # for the others see below
        *(
            soak(name, n, "scalar")
            for name in RUNS
            for n in (1, 2, 3, 7)
            if name + str(n) != "krum3"
        ),
        *(soak(name, 2, "tape") for name in RUNS),
    ],
)
def test_any_number_of_workers_gives_the_same_bits(
    lab: Lab, name: str, workers: int, engine: str
) -> None:
    train = lab.train(*flags(name, "--workers", str(workers), "--engine", engine))
    assert train.wait() == 0, train.err
    ends_alike(lab.run_dir(), expected(name))


@pytest.mark.parametrize("name", ["topk", soak("diloco"), soak("local-sgd")])
def test_a_killed_worker_takes_nothing_with_it(lab: Lab, name: str) -> None:
    """After the first snapshots, so that others go on from one and do tasks again."""
    lab.slow_down(SLOW)
    coordinator = lab.coordinator(*flags(name))
    run = lab.run_dir()
    victim, _ = (lab.worker(run.endpoint()) for _ in range(2))
    run.reaches(9)
    victim.send(signal.SIGKILL)
    victim.wait()
    assert coordinator.wait() == 0, coordinator.err
    ends_alike(run, expected(name))
    assert run.kinds().count("lost") == 1


def on_disk(run: RunDir) -> int:
    """The step of the newest checkpoint."""
    try:
        return checkpoint_format.load(run.newest).step
    except checkpoint_format.CheckpointError:
        return -1


@pytest.mark.parametrize("name", ["diloco", soak("topk"), soak("krum")])
def test_a_killed_coordinator_goes_on_with_the_same_bits(lab: Lab, name: str) -> None:
    lab.slow_down(SLOW)
    train = lab.train(*flags(name, "--workers", "2", "--engine", "scalar"))
    run = lab.run_dir()
    eventually(lambda: on_disk(run) >= 3, "a checkpoint of step 3")
    signal_process(find_child(train, "coordinator"), signal.SIGKILL)
    assert train.wait() == 0, train.err
    assert "starting it again" in train.err
    ends_alike(run, expected(name))


@pytest.mark.parametrize("name", ["local-sgd", soak("topk")])
def test_interrupted_and_resumed_with_another_number_of_workers(lab: Lab, name: str) -> None:
    lab.slow_down(SLOW)
    train = lab.train(*flags(name, "--workers", "3", "--engine", "scalar"))
    run = lab.run_dir()
    run.reaches(4)
    train.send(signal.SIGINT)
    assert train.wait() == 130, train.err
    stopped = load(run.newest)
    assert 4 <= stopped.step < STEPS
    assert any(replica.since for replica in stopped.distributed.replicas)
    lab.slow_down(0.0)
    again = lab.train("--resume", str(run.path), "--workers", "1", "--engine", "scalar", run="")
    assert again.wait() == 0, again.err
    ends_alike(run, expected(name))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a run with replicas that could be extended; look, do not touch."""
    lab = Lab(tmp_path_factory.mktemp("saved"))
    try:
        train = lab.train(*flags("topk", "--workers", "1", "--engine", "scalar"))
        assert train.wait() == 0, train.err
        return str(lab.run_dir().newest)
    finally:
        lab.close()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (["--replicas", "2"], "--replicas 2 contradicts the checkpoint"),
        soak(["--compress", "topk:0.3"], "--compress topk:0.3 contradicts the checkpoint"),
        soak(["--no-error-feedback"], "contradicts the checkpoint"),
        soak(["--inner-optimizer", "sgd"], "--inner-optimizer sgd contradicts the checkpoint"),
        soak(["--outer-optimizer", "sgd"], "--outer-optimizer sgd contradicts the checkpoint"),
        soak(["--aggregate", "median"], "--aggregate median contradicts the checkpoint"),
        soak(["--strategy", "diloco"], "--strategy diloco with"),
    ],
)
def test_a_run_is_resumed_as_it_began(
    lab: Lab, saved: str, changed: list[str], reason: str
) -> None:
    again = lab.coordinator("--resume", saved, "--steps", "12", *changed)
    assert again.wait() == 1
    refused(again.err, reason)


@pytest.mark.parametrize(
    "vectors",
    [{"residual": bytes(8)}, soak({"velocity": bytes(8)}), soak({"residual": b"", "more": b""})],
)
def test_a_checkpoint_whose_replicas_keep_something_else_is_refused(
    lab: Lab, saved: str, vectors: dict[str, bytes]
) -> None:
    loaded = load(saved)
    first, *others = loaded.distributed.replicas
    changed = replace(first, vectors=vectors), *others
    path = lab.place / "changed.msgpack"
    save(path, replace(loaded, distributed=replace(loaded.distributed, replicas=changed)))
    again = lab.coordinator("--resume", str(path), "--steps", "12")
    assert again.wait() == 1
    refused(again.err, "what replica 0 keeps does not fit the run's settings")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["--replicas", "11"], "11 replicas cannot share a batch of 10 documents"),
        soak(["--replicas", "5000"], ""),
        soak(
            ["--aggregate", "krum", "--replicas", "4"], "--aggregate krum needs at least 5 replicas"
        ),
        soak(["--aggregate", "bulyan", "--replicas", "5"], "needs at least 7 replicas"),
        soak(["--aggregate", "crum"], "there is no aggregation rule 'crum': did you mean krum?"),
        (["--compress", "topq"], "there is no compressor 'topq': did you mean topk?"),
        soak(["--compress", "topk:2.0"], "density must be above 0 and at most 1"),
        soak(["--compress", "topk:rank=2"], "rank"),
        soak(["--inner-optimizer", "adamx"], "there is no optimizer 'adamx'"),
        soak(["--outer-optimizer", "sgd:x"], "learning_rate"),
        soak(["--strategy", "diloco", "--strategy-option", "steps=0"], "steps must be at least 1"),
        (["--strategy", "diloco", "--strategy-option", "stride=2"], "has no option 'stride'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    lab: Lab, wrong: list[str], reason: str
) -> None:
    size = [*TINY, "--data", "embedded", "--steps", "2", "--batch-size", "10"]
    train = lab.train(*size, "--workers", "1", *wrong)
    assert train.wait() in (1, 2)
    refused(train.err, reason)
    assert not (lab.place / "runs/it/checkpoint.msgpack").exists()


def refused(said: str, reason: str) -> None:
    """One line, which says why."""
    assert reason in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith(("error", "Error"))]) == 1
