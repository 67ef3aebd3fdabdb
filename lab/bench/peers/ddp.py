"""PyTorch's DistributedDataParallel, on the documents, weights and settings of our own training."""

from __future__ import annotations

from typing import Any

from lab.bench.cells import MANY_STEPS, Cell, Measured, Task, load
from lab.bench.peers.install import PeerError, run_peer
from microgpt.model import parameter_shapes

PROCESSES = 2
DIFFERENT_BATCHES = 8  # that take turns
DDP = ("ddp float64", "ddp float32")
SAME = 5e-5  # up to which losses are the same


def measure(task: Task, repeat: int, losses: dict[int, float]) -> list[Measured]:
    """Each batch size in both precisions. ``losses``: ours of the first batch of each size.

    Raises PeerError if it cannot be installed, does not run, or finds other losses.
    """
    work = load(task)
    config = work.config.model
    batches = [batch for batch in task.batches if batch >= PROCESSES]
    plain: dict[str, Any] = {
        "config": config.to_dict(),
        "shapes": parameter_shapes(config),
        "params": work.state.params.tolist(),
        "adam": work.config.adam.to_dict(),
        "steps": MANY_STEPS,
        "workers": PROCESSES,
        "seconds": task.seconds,
        "batches": [
            [list(work.documents.cyclic(i * batch, batch)) for i in range(DIFFERENT_BATCHES)]
            for batch in batches
        ],
    }
    found = []
    for answer in run_peer("torch", plain, "with_ddp.py"):
        batch, loss = answer["batch"], answer["loss"]
        if batch in losses and abs(losses[batch] - loss) > SAME:
            raise PeerError(f"ddp finds a loss of {loss} in batch {batch}, we {losses[batch]}")
        cell, kind = Cell(PROCESSES, batch, config.n_embd), f"ddp {answer['precision']}"
        found.append(Measured(kind, cell, repeat, answer["step"], answer["steps"], loss=loss))
    return found
