"""``python -m microgpt.engine.judge``: computes one shard that workers contradict each other about.

Reads a request from stdin to its end and writes one message to stdout, an Answer or a Failure: the
coordinator starts it on its own host, and so needs no engine itself. See ``coordinator.judge``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from microgpt.engine import make_engine
from microgpt.engine.answering import Answerer, documents_of
from microgpt.engine.base import Engine
from microgpt.model import GPTConfig, num_positions, parameter_shapes
from microgpt.parameters import num_params
from microgpt.protocol.messages import (
    Failure,
    Message,
    ReplicaState,
    ShardResult,
    Task,
    Weights,
    decode,
    encode,
)
from microgpt.replicas.recipe import from_plain

#: What the slow engine takes for one weight at one position, about; and how long it may take before
#: loading or compiling the other one is worth while.
SCALAR_SECONDS, PATIENCE_SECONDS = 3e-6, 5.0
PARENT_POLL = 0.5  # seconds


def judge(request: bytes) -> ShardResult | Failure:
    """Compute what the request asks for. Raises ValueError if it cannot be understood."""
    plain = msgpack.unpackb(request)
    config = GPTConfig(**plain["model"])
    weights, task = decode(plain["weights"]), decode(plain["task"])
    if not isinstance(weights, Weights) or not isinstance(task, Task):
        raise ValueError("weights and a task are wanted")
    recipe = from_plain(plain["recipe"], trusted=_named(plain["recipe"]))
    answerer = Answerer(choose_engine(config, task), parameter_shapes(config), recipe)
    do_again(answerer, [decode(message) for message in plain["before"]])
    return answerer.answer(weights.weights, task)


def _named(recipe: Mapping[str, Any]) -> list[str]:
    """What the coordinator, on this host, runs itself."""
    return [recipe["compress"], recipe["inner_optimizer"]]


def do_again(answerer: Answerer, before: Sequence[Message]) -> None:
    """Bring a replica to where it was before the task."""
    weights: Mapping[str, bytes] = {}
    for message in before:
        if isinstance(message, ReplicaState):
            answerer.restore(message)
        elif isinstance(message, Weights):
            weights = message.weights
        elif isinstance(message, Task):
            answerer.answer(weights, message)


def choose_engine(config: GPTConfig, task: Task) -> Engine:
    """The slow engine for a little work, as it needs nothing; else the fast one if that works."""
    positions = sum(num_positions(config, document) for document in documents_of(task))
    work = positions * num_params(parameter_shapes(config))
    if work * SCALAR_SECONDS > PATIENCE_SECONDS:
        try:
            return make_engine("tape", config)
        except Exception as error:  # whatever it is: the bits are the same
            print(f"no tape engine: {error}", file=sys.stderr)
    return make_engine("scalar", config)


def end_with(parent: int) -> None:
    """End this process when its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Judge one request."""
    end_with(int(sys.argv[1]))
    output = encode(judge(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
