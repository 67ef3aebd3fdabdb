"""The GPT in PyTorch's DistributedDataParallel over gloo, a thread for each process.

Reads a task as JSON and writes losses and seconds. Each process has its equal part of each batch as
tensors before the clock starts; a step is forward, backward with the all-reduce, and Adam.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from with_torch import batch_loss

WARM_UP = 10
LEAST = 10  # steps that are timed, however long they take
LOOK_STEPS = 10  # after so many, the processes agree whether the time is up


class Model(torch.nn.Module):
    """Parameters under their names; forward gives the sum of the documents' losses."""

    def __init__(self, task: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.names, at = task["config"], {}, 0
        flat = torch.tensor(task["params"], dtype=torch.float64).to(dtype)
        for name, (rows, columns) in task["shapes"].items():
            part = flat[at : at + rows * columns].view(rows, columns)
            self.names[name] = name.replace(".", "_")
            self.register_parameter(self.names[name], torch.nn.Parameter(part.clone()))
            at += rows * columns

    def forward(self, tokens: Any, lengths: Any) -> Any:
        """(documents, positions + 1) tokens and (documents,) lengths: see ``batch_loss``."""
        params = {name: getattr(self, ours) for name, ours in self.names.items()}
        return batch_loss(params, self.config, tokens, lengths)


def tensors(documents: Any, block_size: int) -> tuple[Any, Any]:
    lengths = torch.tensor([min(block_size, len(d) - 1) for d in documents])
    size = int(lengths.max())
    return torch.tensor([(d + [0] * size)[: size + 1] for d in documents]), lengths


def timed(task: Any, precision: str, batches: Any, rank: int, world: int) -> dict[str, Any]:
    """Seconds of a step on each of ``batches`` in turn, and the first one's mean loss."""
    model = DistributedDataParallel(Model(task, getattr(torch, precision)))
    adam = task["adam"]
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=adam["learning_rate"],
        betas=(adam["beta1"], adam["beta2"]),
        eps=adam["eps"],
        fused=True,  # in one kernel, which is the fastest that there is here
    )
    size = len(batches[0])
    share = range(rank * size // world, (rank + 1) * size // world)
    parts = [tensors([batch[i] for i in share], task["config"]["block_size"]) for batch in batches]
    first, times, until, number = torch.zeros(1), [], 0.0, 0
    while True:
        began = time.perf_counter()
        for group in optimizer.param_groups:  # linear to zero, as the trainer's
            group["lr"] = adam["learning_rate"] * (1 - number / task["steps"])
        optimizer.zero_grad()
        loss = model(*parts[number % len(parts)]) * (world / size)  # means over the processes
        loss.backward()
        optimizer.step()
        took = time.perf_counter() - began
        if number == 0:
            first = loss.detach() / world
            dist.all_reduce(first)
        if number == WARM_UP:
            times, until = [], time.perf_counter() + task["seconds"]
        times.append(took)
        number += 1
        if number > WARM_UP + LEAST and number % LOOK_STEPS == 0:
            over = torch.tensor(int(time.perf_counter() > until))
            dist.broadcast(over, 0)
            if over:
                break
    return {
        "precision": precision,
        "batch": size,
        "loss": float(first),
        "step": statistics.median(times),
        "steps": len(times),
    }


def work(rank: int, task: Any, store: str, answers: Any) -> None:
    torch.set_num_threads(1)
    world = task["workers"]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    found = [
        timed(task, precision, batches, rank, world)
        for batches in task["batches"]
        for precision in ("float64", "float32")
    ]
    if rank == 0:
        Path(answers).write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    task = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        store, answers = f"{folder}/store", f"{folder}/answers"
        torch.multiprocessing.spawn(work, (task, store, answers), nprocs=task["workers"])
        print(Path(answers).read_text())


if __name__ == "__main__":
    main()
