"""Helper of ``test_checkpoint_writer``: writes checkpoints until it is killed.

For every line ``DIRECTORY STEP`` it reads, a child is forked (importing takes longer than a life)
that writes as fast as it can from that step on. Prints the child's number, then each saved step.
"""

from __future__ import annotations

import os
import queue
import sys
from dataclasses import replace
from pathlib import Path

from coordinator.checkpointing.retention import Retention
from coordinator.checkpointing.writer import CheckpointWriter
from coordinator.core.actions import Save
from coordinator.core.events import Event
from coordinator.core.inputs import Saved
from microgpt.checkpoint.format import Checkpoint, Validation
from microgpt.training import TrainingState, from_checkpoint
from tests.tiny import make_tiny

RULES = Retention(keep_last=3, keep_every=50, keep_best=2)


def made(step: int) -> Checkpoint:
    """A checkpoint whose bytes depend on the step."""
    return replace(make_tiny(), step=step, validation=Validation(step, 1.0 + step * 37 % 101))


def write_on(run_dir: Path, step: int) -> None:
    """Never returns."""
    base, saved = made(0), queue.SimpleQueue[int]()
    state = from_checkpoint(base)

    def convert(state: TrainingState) -> Checkpoint:
        loss = Validation(state.step, 1.0 + state.step * 37 % 101)
        return replace(base, step=state.step, validation=loss)

    def report(event: Saved | Event) -> None:
        if not isinstance(event, Saved) or event.error:
            os._exit(1)
        os.write(1, b"%d\n" % event.step)
        saved.put(event.step)

    writer = CheckpointWriter(run_dir, convert, report, RULES)
    writer.hurry()  # without rests
    while True:
        writer.submit(Save(replace(state, step=step)))
        step = saved.get() + 1


if __name__ == "__main__":
    for line in sys.stdin:
        directory, first = line.split()
        child = os.fork()
        if child == 0:
            os.write(1, b"%d\n" % os.getpid())
            write_on(Path(directory), int(first))
        os.waitpid(child, 0)
        os.write(1, b"dead\n")
