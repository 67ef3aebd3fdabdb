"""The judge: what workers contradict each other about is computed on the coordinator's host."""

from __future__ import annotations

import os
import queue
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

import coordinator.judge
from coordinator.core.actions import Judge
from coordinator.core.events import Cause, Expelled
from coordinator.core.inputs import Judged
from coordinator.judge import JudgeProcess
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.engine import judge as judges
from microgpt.engine import make_engine
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import vector_from_map, vector_to_map
from microgpt.parameters import init_parameters, num_params, to_bytes
from microgpt.protocol import messages
from microgpt.protocol.messages import Failure, ShardResult, Task, Weights
from microgpt.replicas.recipe import to_plain
from tests.conftest import Reference
from tests.processes import NAMES, TINY_MODEL, Lab, eventually, session_members
from tests.system.test_system_strangers import SMALL, STEPS, Target, answers
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)

CORPUS = Corpus(NAMES, 42)
MODEL = GPTConfig(CORPUS.tokenizer.vocab_size, **TINY_MODEL)
SHAPES = parameter_shapes(MODEL)
RECIPE = to_plain(TrainingConfig(MODEL))
PARAMS = np.array(init_parameters(SHAPES, CORPUS.rng))
WEIGHTS = Weights("run", "epoch", 3, vector_to_map(PARAMS, SHAPES))
DOCUMENTS = CORPUS.batch(3, 4)
TASK = Task("run", "epoch", 3, 4, 4, *DOCUMENTS.to_bytes(), round=0)


def request(weights: Weights, task: Task) -> bytes:
    parts: dict[str, Any] = {"weights": messages.encode(weights), "task": messages.encode(task)}
    parts |= {"recipe": RECIPE, "before": []}
    packed: bytes = msgpack.packb({"model": MODEL.to_dict(), **parts})
    return packed


def test_it_computes_the_bits_of_every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make_engine("tape", MODEL).gradients(PARAMS, DOCUMENTS)
    for patience in (5.0, 0.0):  # the slow engine, and the fast one
        monkeypatch.setattr(judges, "PATIENCE_SECONDS", patience)
        answer = judges.judge(request(WEIGHTS, TASK))
        assert isinstance(answer, ShardResult)
        assert (answer.step, answer.start, answer.count) == (3, 4, 4)
        assert answer.losses == to_bytes(expected.losses)
        gradient = vector_from_map(answer.gradient, SHAPES)
        assert gradient.tobytes() == expected.gradient.tobytes()


def test_without_the_fast_engine_it_takes_the_slow_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_tape(name: str, config: GPTConfig) -> Any:
        if name == "tape":
            raise ImportError("no compiler")
        return make_engine(name, config)

    monkeypatch.setattr(judges, "make_engine", no_tape)
    monkeypatch.setattr(judges, "PATIENCE_SECONDS", 0.0)
    assert isinstance(judges.judge(request(WEIGHTS, TASK)), ShardResult)
    assert "no compiler" in capfd.readouterr().err


def test_a_document_that_cannot_be_computed() -> None:
    huge = vector_to_map(np.full(num_params(SHAPES), 1e200), SHAPES)
    failure = judges.judge(request(Weights("run", "epoch", 3, huge), TASK))
    assert isinstance(failure, Failure)
    assert (failure.step, failure.document, failure.training) == (3, 4, True)


# --- the process ---------------------------------------------------------------------------------


class Asked:
    """A judge's process, and what it reports."""

    def __init__(self, **more: Any) -> None:
        self.verdicts: queue.SimpleQueue[Judged] = queue.SimpleQueue()
        self.process = JudgeProcess(MODEL.to_dict(), RECIPE, self.verdicts.put, **more)
        self.process.ask(Judge(TASK, WEIGHTS))

    def verdict(self) -> Judged:
        return self.verdicts.get(timeout=60)


def test_a_process_of_its_own_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("microgpt.py", "random.py", "msgpack.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    verdict = Asked().verdict()
    assert isinstance(verdict.answer, ShardResult), verdict.reason
    assert verdict.answer.losses == judges.judge(request(WEIGHTS, TASK)).losses  # type: ignore[union-attr]


def test_one_that_takes_too_long_is_ended() -> None:
    assert Asked(limit=0.0).verdict() == Judged(None, "it takes longer than 0 s")


def test_one_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator.judge, "MODULE", "microgpt.engine.no_judge")
    verdict = Asked().verdict()
    assert verdict.answer is None
    assert "No module named microgpt.engine.no_judge" in verdict.reason


def test_it_is_gone_when_the_run_is_over() -> None:
    asked = Asked()
    child = getattr(eventually(lambda: asked.process._process, "the judge starts"), "pid", 0)
    asked.process.close()
    eventually(lambda: not session_members(child), "the judge ends")
    assert asked.verdict() == Judged(None, "the process ended with -9")
    asked.process.ask(Judge(TASK, WEIGHTS))
    assert asked.verdict() == Judged(None, "RuntimeError: the run is over")


def test_it_ends_with_the_coordinator(lab: Lab) -> None:
    """Also with one that is killed while the judge computes, or waits."""
    nobody = str(os.getpid() + 1)  # not its parent
    judge = lab.start(sys.executable, "-m", "microgpt.engine.judge", nobody, name="judge")
    judge.popen.wait(30)


# --- real runs -----------------------------------------------------------------------------------


def join(target: Target, *names: str) -> list[zmq.Socket[bytes]]:
    """Members that mean harm."""
    dealers = [target.dealer() for _ in names]
    for dealer, name in zip(dealers, names, strict=True):
        target.hello(dealer, name)
    return dealers


@pytest.fixture
def target(lab: Lab, request: pytest.FixtureRequest) -> Any:
    """``request.param``: seconds of silence that are borne."""
    target = Target(lab, "--worker-timeout", str(getattr(request, "param", 30)))
    try:
        yield target
    finally:
        target.close()


def goes_on(target: Target, reference: Reference) -> None:
    assert target.coordinator.wait() == 0, target.coordinator.err
    ends_alike(target.run, reference(STEPS, SMALL))
    assert "Traceback" not in target.coordinator.err


@pytest.mark.soak
@pytest.mark.parametrize("target", [4], indirect=True)  # to be rid of the stopped worker soon
def test_two_members_that_claim_failures_end_no_run(target: Target, reference: Reference) -> None:
    target.worker.send(signal.SIGSTOP)  # so that it is theirs to decide
    dealers = join(target, "evil", "worse")
    poller = zmq.Poller()
    for dealer in dealers:
        poller.register(dealer, zmq.POLLIN)
    refused = 0
    alive = messages.encode(messages.Heartbeat(*target.greeted, ready=True))
    while refused < 2:
        for dealer in dealers:
            dealer.send(alive)  # the judge may take longer than silence is borne
        for dealer, _ in poller.poll(100):
            message = messages.decode(dealer.recv())
            if isinstance(message, Task):
                claim = (message.step, message.start, "because", message.training)
                failure = Failure(message.run, message.epoch, *claim, round=message.round)
                dealer.send(messages.encode(failure))
            refused += isinstance(message, messages.Refuse)
    target.let_go()
    goes_on(target, reference)
    assert "judge_asked" in target.run.kinds()


def test_a_gradient_that_makes_weights_infinite_ends_no_run(
    target: Target, reference: Reference
) -> None:
    (dealer,) = join(target, "evil")
    weights = target.receive(dealer, Weights)
    task = target.receive(dealer, Task)
    number = struct.pack("<d", 1.7e308)
    gradient = {name: number * (len(part) // 8) for name, part in weights.weights.items()}
    dealer.send(messages.encode(ShardResult(gradient=gradient, **answers(task))))
    goes_on(target, reference)
    (expelled,) = target.run.events(Expelled)
    assert (expelled.name, expelled.cause) == ("evil", Cause.WRONG)
    assert "computed by the coordinator" in expelled.reason
