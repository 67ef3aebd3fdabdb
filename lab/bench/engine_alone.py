"""The engine alone: batch after batch in one process, with no message, sum over shards or update.

Run as a program this file reads a ``Task`` as JSON and writes what a batch takes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from lab.bench.cells import ENGINE, Task, load
from microgpt.engine import make_engine
from microgpt.training import advance, validation_loss

WARM_UP = 2  # batches
LEAST = 5  # batches that are timed, however long they take


def measure(task: Task) -> Iterator[dict[str, Any]]:
    """Each batch size: seconds of a batch, and the mean loss of the first.

    Everything that is compiled or recorded once is ready after the first batch, Adam included.
    """
    work, times, first = load(task), list[float](), 0
    engine = make_engine("tape", work.config.model)
    params = work.state.params
    for batch in task.batches:
        result = engine.gradients(params, work.documents.cyclic(0, batch))
        advance(work.config, work.state, result.gradient, result.losses)
        loss = validation_loss(result.losses)
        times, first = [], 0
        until = time.perf_counter() + task.seconds
        while len(times) < LEAST + WARM_UP or time.perf_counter() < until:
            first += batch
            documents = work.documents.cyclic(first, batch)
            began = time.perf_counter()
            engine.gradients(params, documents)
            times.append(time.perf_counter() - began)
        counted = times[WARM_UP:]
        yield {
            "batch": batch,
            "kind": ENGINE,
            "step": statistics.median(counted),
            "steps": len(counted),
            "loss": loss,
        }


if __name__ == "__main__":
    print(json.dumps(list(measure(Task(**json.load(sys.stdin))))))
