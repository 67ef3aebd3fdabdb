"""Checkpoints of a training, asked for over its socket: real coordinators, workers and scripts."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from coordinator.checkpointing.writer import step_path
from microgpt.checkpoint import format as checkpoint_format
from microgpt.protocol import messages
from microgpt.protocol.messages import (
    MAX_PART,
    CheckpointPart,
    FetchCheckpoint,
    Message,
    NoCheckpoint,
    Refuse,
)
from tests.processes import TINY, Lab, Process, RunDir

pytestmark = pytest.mark.timeout(300)
STEPS = 14
#: Large enough for two parts: by many places for letters, which cost the scalar engine little.
LARGE = ("--n-embd", "4", "--n-head", "2", "--block-size", "3500", "--batch-size", "1")


class Serving:
    """A training of which some steps are done, and whose worker is held."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.run = lab, lab.run_dir()
        often = ("--steps", str(STEPS), "--checkpoint-every", "2", "--eval-every", "4")
        data = ("--data", str(lab.data), "--validation-fraction", "0.1")
        self.coordinator = lab.coordinator(*LARGE, *often, *data)
        self.address = self.run.endpoint()
        lab.slow_down(0.1)
        self.worker = lab.worker(self.address)
        self.run.reaches(6)
        self.worker.send(signal.SIGSTOP)
        self.run.happens("silent")  # all that it has said is dealt with
        self.newest = len(self.run.metrics) // 2 * 2
        assert self.newest < STEPS, "the worker was held too late"
        self.run.happens("checkpoint_saved", 1 + self.newest // 2)

    def file(self, step: int) -> Path:
        return step_path(self.run.path, step)

    def script(self, script: str, *arguments: str, code: int = 0) -> Process:
        process = self.lab.script(script, *arguments)
        assert process.wait(30) == code, process.err
        return process

    def error(self, script: str, *arguments: str) -> str:
        process = self.script(script, *arguments, code=1)
        assert process.out == ""
        (line,) = process.err.splitlines()
        return line


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    lab = Lab(tmp_path_factory.mktemp("serving"))
    try:
        yield Serving(lab)
    finally:
        lab.close()


def test_list(serving: Serving) -> None:
    done = serving.script("checkpoint", "list", serving.address, "--json")
    steps = range(0, serving.newest + 1, 2)
    expected = []
    for step in steps:
        loaded = checkpoint_format.load(serving.file(step))
        validation = loaded.validation._asdict() if loaded.validation else None
        loss = loaded.losses[-1] if loaded.losses else None
        size = serving.file(step).stat().st_size
        expected.append(
            {"step": step, "good": True, "size": size, "last_loss": loss, "validation": validation}
        )
    assert json.loads(done.out) == expected
    lines = serving.script("checkpoint", "list", serving.address).out.splitlines()
    assert lines[0].split() == ["step", "loss", "validation", "bytes"]
    assert [int(line.split()[0]) for line in lines[1:]] == list(steps)


def test_get(serving: Serving) -> None:
    place = serving.lab.place
    whole = serving.run.newest.read_bytes()
    assert len(whole) > MAX_PART
    loaded = checkpoint_format.load(serving.run.newest)
    done = serving.script("checkpoint", "get", serving.address)
    name = f"step-{serving.newest:08d}.msgpack"
    assert (place / name).read_bytes() == whole
    assert done.out == (
        f"step {serving.newest}, loss {loaded.losses[-1]:.4f}: {len(whole)} bytes in {name}\n"
        f"params_sha256  {loaded.params_sha256}\n"
    )
    assert f"{name} exists" in serving.error("checkpoint", "get", serving.address)
    (place / "x").write_text("")
    get = ("get", serving.address, "--step", "2", "-o", "x")
    assert "x exists" in serving.error("checkpoint", *get)
    serving.script("checkpoint", *get, "--force")
    assert (place / "x").read_bytes() == serving.file(2).read_bytes()
    nowhere = ("get", serving.address, "-o", "no/x")
    assert "cannot be written" in serving.error("checkpoint", *nowhere)
    assert "no address" in serving.error("checkpoint", "get", str(serving.run.path))


@pytest.mark.parametrize("step", ["1", "14", "-1", "99999999999999999999999"])
def test_get_of_steps_that_are_not_there(serving: Serving, step: str) -> None:
    line = serving.error("checkpoint", "get", serving.address, "--step", step)
    assert line in (
        f"error: there is no checkpoint of step {step}",
        f"error: no checkpoint is of step {step}",
    )


def test_samples_are_those_of_the_file(serving: Serving) -> None:
    for flags in ([], ["--seed", "3", "--json", "--explain"]):
        remote = serving.script("sample", serving.address, "--num-samples", "4", *flags)
        local = serving.script("sample", str(serving.run.newest), "--num-samples", "4", *flags)
        assert remote.out == local.out
        assert remote.out.count("\n") == 4


def test_flags_that_do_not_go_together(serving: Serving) -> None:
    for flags, complaint in (
        ([str(serving.run.newest), "--follow"], "--follow is for a coordinator"),
        ([str(serving.run.newest), "--curve", "keys"], "--curve is for a coordinator"),
        ([serving.address, "--follow", "--interactive"], "leave out --interactive"),
    ):
        assert complaint in serving.script("sample", *flags, code=2).err
    line = serving.error("checkpoint", "list", str(serving.run.path), "--curve", "keys")
    assert "--curve is for the address" in line


def test_hostile_questions(serving: Serving) -> None:
    """Each gets a plain reply, and the training that ends below is none the worse for it."""
    context = zmq.Context()

    def reply(data: bytes) -> Message:
        with context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.RCVTIMEO, 10_000)
            dealer.connect(serving.address)
            dealer.send(data)
            return messages.decode(dealer.recv())

    def fetch(wanted: object, offset: object = 0, known: object = None) -> Message:
        question = FetchCheckpoint("", "", 1, wanted, offset, known)  # type: ignore[arg-type]
        return reply(messages.encode(question))

    try:
        for offset in (1 << 20, 1 << 40, 1 << 62):
            assert isinstance(fetch(None, offset), NoCheckpoint)
        assert isinstance(fetch(2, MAX_PART), CheckpointPart)
        for step in (1, STEPS, 1 << 40, 1 << 62):
            assert isinstance(fetch(step), NoCheckpoint)
        wrongs: tuple[object, ...] = (-1, 1 << 63, "../config.json", b"\0", 1.5, True, [], {})
        for wrong in wrongs:
            assert isinstance(fetch(wrong), Refuse)
            assert isinstance(fetch(2, wrong), Refuse)
            assert isinstance(fetch(2, 0, wrong), Refuse)
        # The coordinator's own words, sent to it.
        part = CheckpointPart("", "", 1, 2, 9, 0, b"123456789")
        assert isinstance(reply(messages.encode(part)), messages.Reregister)
    finally:
        context.destroy(linger=0)
    assert len(serving.coordinator.err.splitlines()) < 10


def test_a_damaged_file(serving: Serving) -> None:
    serving.file(0).write_bytes(serving.file(0).read_bytes()[:-5])
    lines = serving.script("checkpoint", "list", serving.address).out.splitlines()
    assert lines[1].split() == ["0", "truncated"]
    line = serving.error("checkpoint", "get", serving.address, "--step", "0")
    assert line.startswith(f"error: step 0 at {serving.address} is truncated")


def test_following_until_the_end(serving: Serving) -> None:
    """Must be the last: the training goes on, and ends."""
    broken_off = serving.lab.script("sample", serving.address, "--follow")
    broken_off.says(f"step {serving.newest} |")
    broken_off.send(signal.SIGINT)
    assert (broken_off.wait(), broken_off.err) == (130, "")

    follower = serving.lab.script("sample", serving.address, "--follow", "--num-samples", "2")
    as_json = serving.lab.script("sample", serving.address, "--follow", "--json")
    follower.says("sample  2")
    as_json.says('"sample": 5')
    serving.worker.send(signal.SIGCONT)
    assert serving.coordinator.wait() == 0
    assert follower.wait() == 0
    assert follower.err == f"no coordinator at {serving.address} any more\n"

    lines = follower.out.splitlines()
    steps = [int(found[1]) for line in lines if (found := re.match(r"step (\d+) \| loss", line))]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (serving.newest, STEPS), "the last one is not missed"
    last = serving.script("sample", str(serving.run.newest), "--num-samples", "2").out.splitlines()
    assert lines[-2:] == last
    loaded = checkpoint_format.load(serving.run.newest)
    assert loaded.validation is not None
    held_out = f"validation loss {loaded.validation.loss:.4f}"
    assert lines[-3] == f"step {STEPS} | loss {loaded.losses[-1]:.4f} | {held_out}"

    assert as_json.wait() == 0
    records = [json.loads(line) for line in as_json.out.splitlines()]
    assert records[-6]["step"] == STEPS
    assert records[-6]["loss"] == loaded.losses[-1]
    assert [record["sample"] for record in records[-5:]] == [1, 2, 3, 4, 5]


@pytest.mark.soak
def test_only_known_keys_see_an_encrypted_run(lab: Lab) -> None:
    coordinator = lab.coordinator("--curve", "keys", *TINY, "--data", str(lab.data))
    run: RunDir = lab.run_dir()
    address = run.endpoint()
    run.happens("checkpoint_saved")
    for name in ("stranger", "other"):
        (lab.place / name).mkdir()
        shutil.copy(lab.place / "keys" / "coordinator.key", lab.place / name)

    def ends(curve: str | None, code: int = 1) -> str:
        flags = [] if curve is None else ["--curve", curve]
        script = lab.script("checkpoint", "get", address, "-o", "x", "--force", *flags)
        assert script.wait(30) == code
        assert script.err.count("\n") == code
        return script.err

    assert ends(None) == "error: the coordinator wants keys: give --curve DIR\n"
    unknown = "error: the coordinator does not know this key: copy stranger/worker.key into"
    assert ends("stranger").startswith(unknown)
    assert "there is no coordinator.key in nothing" in ends("nothing")
    # The key of another coordinator, which here is the stranger's own.
    shutil.copy(lab.place / "stranger" / "worker.key", lab.place / "other" / "coordinator.key")
    assert "no coordinator with the key in other answers at" in ends("other")

    shutil.copy(
        lab.place / "stranger" / "worker.key", lab.place / "keys" / "workers" / "stranger.key"
    )
    for known in ("stranger", "keys"):
        assert ends(known, code=0) == ""
        assert (lab.place / "x").read_bytes() == run.newest.read_bytes()
    samples = lab.script("sample", address, "--curve", "keys", "--num-samples", "1")
    assert samples.wait() == 0, samples.err
    assert run.kinds().count("joined") == 0
    coordinator.send(signal.SIGTERM)
    assert coordinator.wait() == 143
