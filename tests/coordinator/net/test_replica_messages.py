"""The coordinator's socket lets through what replicas need, where that is several vectors long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zmq

from coordinator.core.inputs import Disconnected, Input, Misbehaved, Received
from coordinator.core.sizes import Sizes, sizes_of
from coordinator.core.work_order import snapshot_every
from coordinator.net.router import Transport
from coordinator.run.conduct import open_transport
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.distribution import Distribution
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import vector_to_map
from microgpt.parameters import num_params
from microgpt.protocol.messages import (
    Goodbye,
    ReplicaResult,
    ReplicaState,
    Weights,
    decode,
    encode,
)
from tests.processes import NAMES, eventually

CORPUS = Corpus(NAMES, 42)
MODEL = GPTConfig(CORPUS.tokenizer.vocab_size, n_embd=256, n_head=4)
CONFIG = TrainingConfig(
    MODEL, batch_size=8, strategy="diloco", strategy_options={"steps": 2},
    distribution=Distribution(2),
)  # fmt: skip
SHAPES = parameter_shapes(MODEL)
NUMBERS = np.random.default_rng(1).normal(size=num_params(SHAPES))


@pytest.fixture
def transport() -> Iterator[Transport]:
    run: Any = SimpleNamespace(config=CONFIG, corpus=CORPUS)
    settings: Any = SimpleNamespace(bind="tcp://127.0.0.1:*", curve=None)
    transport = open_transport(run, settings)
    yield transport
    transport.close()


def sizes() -> Sizes:
    from microgpt.strategies.diloco import DiLoCo

    return sizes_of(CONFIG, DiLoCo(2), CORPUS.longest)


def heard(transport: Transport) -> Input:
    """The next thing that comes in."""
    inputs: list[Input] = []

    def something() -> bool:
        transport.wait(0.01)
        inputs.extend(transport.receive())
        return bool(inputs)

    eventually(something, "a message")
    (event,) = inputs
    return event


@pytest.mark.parametrize("proven", [True, False])
def test_a_snapshot_comes_in_whole(transport: Transport, proven: bool) -> None:
    gradient, bits = vector_to_map(NUMBERS, SHAPES), NUMBERS.tobytes()
    answer = ReplicaResult(
        "run", "epoch", 3, 0, 4, 0.5, bytes(32), gradient, round=3, payload=b"",
        state={"inner.m": bits, "inner.v": bits},
    )  # fmt: skip
    data = encode(answer)
    assert len(data) > 3 * NUMBERS.nbytes > 10 << 20
    with zmq.Context() as context, context.socket(zmq.DEALER) as worker:
        worker.setsockopt(zmq.LINGER, 0)
        worker.connect(transport.endpoint)
        worker.send(encode(Goodbye("", "")))
        first = heard(transport)
        assert isinstance(first, Received)
        transport.let_in([first.peer], lambda peer: proven)
        worker.send(encode(Goodbye("", "")))
        heard(transport)
        for _ in range(3):
            worker.send(data)
            event = heard(transport)
            assert not isinstance(event, Misbehaved | Disconnected)
            assert isinstance(event, Received)
            assert event.message == answer


def test_a_worker_may_be_sent_a_whole_replica_before_it_reads_any_of_it(
    transport: Transport,
) -> None:
    bits = NUMBERS.tobytes()
    state = encode(ReplicaState("run", "epoch", 0, 8, {"inner.m": bits, "inner.v": bits}))
    weights = [
        encode(Weights("run", "epoch", step, vector_to_map(NUMBERS + step, SHAPES)))
        for step in range(snapshot_every(SHAPES) + 1)
    ]
    assert len(state) + sum(map(len, weights)) > sizes().taking_over - (1 << 20)
    with zmq.Context() as context, context.socket(zmq.DEALER) as worker:
        worker.setsockopt(zmq.LINGER, 0)
        worker.setsockopt(zmq.RCVHWM, 1)
        worker.setsockopt(zmq.RCVBUF, 1 << 16)
        worker.connect(transport.endpoint)
        worker.send(encode(Goodbye("", "")))
        first = heard(transport)
        assert isinstance(first, Received)
        transport.let_in([first.peer], lambda peer: True)
        for data in (state, *weights):
            transport.send(first.peer, data)
        steps = []
        for data in (state, *weights):

            def readable() -> bool:
                transport.wait(0.0)
                assert [*transport.receive()] == []
                return bool(worker.poll(10))

            eventually(readable, "the next message")
            message = decode(worker.recv())
            assert encode(message) == data
            steps.append(getattr(message, "step", None))
        assert steps == [None, *range(snapshot_every(SHAPES) + 1)]


@pytest.mark.parametrize("where", ["tcp", "ipc"])
def test_as_many_tasks_as_a_replica_may_have_to_do_again_are_let_through(
    where: str, tmp_path: Path
) -> None:
    small = TrainingConfig(GPTConfig(CORPUS.tokenizer.vocab_size), distribution=Distribution(2))
    run: Any = SimpleNamespace(config=small, corpus=CORPUS)
    bind = "tcp://127.0.0.1:*" if where == "tcp" else f"ipc://{tmp_path / 'here'}"
    settings: Any = SimpleNamespace(bind=bind, curve=None)
    shapes = parameter_shapes(small.model)
    zeros = vector_to_map(np.zeros(num_params(shapes)), shapes)
    redo = [encode(Weights("run", "epoch", step, zeros)) for step in range(snapshot_every(shapes))]
    task = encode(Goodbye("run", "epoch"))  # as short as one
    with (
        closing(open_transport(run, settings)) as transport,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as worker,
    ):
        worker.setsockopt(zmq.LINGER, 0)
        worker.setsockopt(zmq.RCVHWM, 1)
        worker.connect(transport.endpoint)
        worker.send(encode(Goodbye("", "")))
        first = heard(transport)
        assert isinstance(first, Received)
        transport.let_in([first.peer], lambda peer: True)
        for weights in redo:  # nothing is read meanwhile
            transport.send(first.peer, weights)
            transport.send(first.peer, task)
        for expected in (data for weights in redo for data in (weights, task)):
            transport.wait(0.0)
            assert [*transport.receive()] == []
            assert worker.poll(10_000)
            assert worker.recv() == expected
