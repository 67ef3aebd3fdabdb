"""The bare loop: what a step takes with sockets, msgpack and arithmetic, and nothing else.

One ROUTER and N DEALER processes pass what a trainer cannot do without: the map of the weights and
a shard of documents to each worker, and a map of gradients back. No members, faults, checks or
records. What the whole system takes more is what those cost. Run as a program this file is the
ROUTER: it reads a ``Task`` as JSON and writes a list of measurements; with an address it is one
of the DEALERs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgpack
import numpy as np
import zmq

from lab.bench.cells import BARE, COMPUTING, Task, Work, load
from microgpt.config import TrainingConfig
from microgpt.data.packed import PackedDocuments
from microgpt.engine import make_engine
from microgpt.engine.base import Engine
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector, vector_from_bytes
from microgpt.optim.reduction import Shard, shards, tree_sum
from microgpt.parameters import Shapes
from microgpt.support.isolation import isolated
from microgpt.training import TrainingState, advance

WARM_UP_STEPS = 5
LEAST_STEPS = 10  # that are timed, however long they take
LOOK_MS = 1000  # between two looks whether the others are alive
#: What an envelope has in it beside: as long as those of the trainer's messages.
ENVELOPE = {"protocol": 0, "run": "0" * 32, "epoch": "0" * 16, "round": 1 << 16, "training": True}


class Passed(NamedTuple):
    """What a step has passed: bytes ``sent`` and ``received`` by the ROUTER.

    ``arithmetic``: seconds of the slowest DEALER's engine, of the tree sum and of Adam.
    """

    sent: int = 0
    received: int = 0
    arithmetic: float = 0.0


@dataclass(frozen=True)
class Loop:
    """What the ROUTER has at hand. ``config`` is that of the batch size being measured."""

    work: Work
    config: TrainingConfig
    shapes: Shapes
    router: zmq.Socket[bytes]
    peers: list[bytes]
    running: list[subprocess.Popen[bytes]]


# --- the ROUTER ----------------------------------------------------------------------------------


def route(task: Task) -> Iterator[dict[str, Any]]:
    """Each batch size without and with arithmetic: seconds of a step, and its bytes."""
    work = load(task)
    shapes = parameter_shapes(work.config.model)
    with dealers(task) as (router, peers, running):
        for batch in task.batches:
            config = replace(work.config, batch_size=batch)
            loop = Loop(work, config, shapes, router, peers, running)
            for compute in (False, True):
                yield timed(loop, compute, task.seconds)
        for peer in peers:
            router.send_multipart((peer, b""))


@contextmanager
def dealers(
    task: Task,
) -> Iterator[tuple[zmq.Socket[bytes], list[bytes], list[subprocess.Popen[bytes]]]]:
    """A ROUTER socket with so many DEALERs that know the model, their identities and processes."""
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        address = f"ipc://{folder}/router"
        router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        router.setsockopt(zmq.RCVTIMEO, LOOK_MS)
        router.bind(address)
        command = isolated("lab.bench.bare_loop", address)
        running = [subprocess.Popen(command) for _ in range(task.workers)]  # noqa: S603  # ours
        try:
            peers = [received(router, running)[0] for _ in running]
            for peer in peers:
                router.send_multipart((peer, msgpack.packb(task.model)))
            yield router, peers, running
        finally:
            for process in running:
                process.terminate()
                process.wait()
            router.close(linger=0)


def received(router: zmq.Socket[bytes], running: list[subprocess.Popen[bytes]]) -> list[bytes]:
    """The next message, if no DEALER has ended before it comes."""
    while True:
        try:
            return router.recv_multipart()
        except zmq.Again:
            if any(process.poll() is not None for process in running):
                sys.exit("a process of the bare loop has ended")


def timed(loop: Loop, compute: bool, seconds: float) -> dict[str, Any]:
    """Take steps for so long; see ``cells.Measured`` for what is told of them."""
    state, times, rest, passed = loop.work.state, list[float](), list[float](), Passed()
    batch = loop.config.batch_size
    cut = shards(batch, largest_shard(batch, len(loop.peers)))
    for _ in range(WARM_UP_STEPS):
        state, passed = step(loop, state, cut, compute)
    loss = state.losses[0] if compute else None
    until, used = time.perf_counter() + seconds, time.process_time()
    while len(times) < LEAST_STEPS or time.perf_counter() < until:
        began = time.perf_counter()
        state, passed = step(loop, state, cut, compute)
        times.append(time.perf_counter() - began)
        rest.append(times[-1] - passed.arithmetic)
    used = time.process_time() - used
    return {
        "batch": batch,
        "kind": COMPUTING if compute else BARE,
        "step": statistics.median(times),
        "steps": len(times),
        "processor": used / len(times),
        "sent": passed.sent,
        "received": passed.received,
        "loss": loss,
        "coordination": statistics.median(rest),
    }


def largest_shard(batch: int, workers: int) -> int:
    """A power of two: of so many documents each worker gets about one shard."""
    return 1 << ((-(-batch // workers)).bit_length() - 1)


def step(
    loop: Loop, state: TrainingState, cut: list[Shard], compute: bool
) -> tuple[TrainingState, Passed]:
    """One step: the state after it, and what it has passed."""
    router, peers = loop.router, loop.peers
    documents = loop.work.documents.cyclic(state.next_document, loop.config.batch_size)
    weights = packed(loop.shapes, "weights", state.params, step=state.step)
    sent = 0
    for peer in peers:
        router.send_multipart((peer, weights))
        sent += len(weights)
    for number, shard in enumerate(cut):
        part = documents[shard.start : shard.start + shard.count]
        tokens, lengths = part.to_bytes()
        task = {"start": shard.start, "tokens": tokens, "lengths": lengths, "compute": compute}
        data = msgpack.packb({"kind": "task", **ENVELOPE, "step": state.step, **task})
        router.send_multipart((peers[number % len(peers)], data))
        sent += len(data)
    answers, got = {}, 0
    for _ in cut:
        _, data = received(router, loop.running)
        answer = msgpack.unpackb(data)
        answers[answer["start"]] = answer
        got += len(data)
    arithmetic = 0.0
    if compute:
        in_order = [answers[shard.start] for shard in cut]
        began = time.perf_counter()
        state = updated(loop, state, in_order)
        engines = [answer["seconds"] for answer in in_order]
        slowest = max(sum(engines[place :: len(peers)]) for place in range(len(peers)))
        arithmetic = time.perf_counter() - began + slowest
    return state, Passed(sent, got, arithmetic)


def updated(loop: Loop, state: TrainingState, answers: list[Mapping[str, Any]]) -> TrainingState:
    """The tree sum and Adam, as the trainer has them."""
    gradients = [joined(loop.shapes, answer["gradient"]) for answer in answers]
    losses = [loss for answer in answers for loss in np.frombuffer(answer["losses"]).tolist()]
    return advance(loop.config, state, tree_sum(gradients), losses)


# --- a DEALER ------------------------------------------------------------------------------------


def deal(address: str) -> None:
    """Answer until there is no more; end if the parent does."""
    parent = os.getppid()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, LOOK_MS)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    socket.send(b"")

    def receive() -> bytes:
        while True:
            try:
                return socket.recv()
            except zmq.Again:
                if os.getppid() != parent:
                    sys.exit()

    model = GPTConfig(**msgpack.unpackb(receive()))
    answer = Answers(model)
    while data := receive():
        message = msgpack.unpackb(data)
        if message["kind"] == "weights":
            answer.params = joined(answer.shapes, message["weights"])
        else:
            socket.send(answer.to(message))


class Answers:
    """Gradients of tasks; where no arithmetic is wanted, the weights are sent back as if."""

    def __init__(self, model: GPTConfig) -> None:
        self._model, self.shapes = model, parameter_shapes(model)
        self._engine: Engine | None = None
        self.params = np.empty(0)

    def to(self, task: Mapping[str, Any]) -> bytes:
        """The answer to one task."""
        documents = PackedDocuments.from_bytes(task["tokens"], task["lengths"])
        gradient, losses = self.params, np.zeros(len(documents))
        seconds = 0.0
        if task["compute"]:
            self._engine = self._engine or make_engine("tape", self._model)
            began = time.perf_counter()
            result = self._engine.gradients(self.params, documents)
            seconds = time.perf_counter() - began
            gradient, losses = result.gradient, np.array(result.losses)
        rest = {"start": task["start"], "losses": losses.tobytes(), "seconds": seconds}
        return packed(self.shapes, "gradient", gradient, step=task["step"], **rest)


# --- both ----------------------------------------------------------------------------------------


def packed(shapes: Shapes, kind: str, vector: Vector, **rest: Any) -> bytes:
    """A message with a vector as a map of bytes."""
    view, parts, at = memoryview(vector.data).cast("B"), {}, 0
    for name, (rows, columns) in shapes.items():
        parts[name] = view[at : at + 8 * rows * columns]
        at += 8 * rows * columns
    data: bytes = msgpack.packb({"kind": kind, **ENVELOPE, **rest, kind: parts})
    return data


def joined(shapes: Shapes, parts: Mapping[str, bytes]) -> Vector:
    """The vector of such a map."""
    return vector_from_bytes(b"".join([parts[name] for name in shapes]))


def main(read: Callable[[], str] = sys.stdin.read) -> None:
    """The ROUTER, or a DEALER if an address is given."""
    if len(sys.argv) > 1:
        deal(sys.argv[1])
    else:
        print(json.dumps(list(route(Task(**json.loads(read()))))))


if __name__ == "__main__":
    main()
