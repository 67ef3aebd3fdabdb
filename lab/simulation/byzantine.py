"""What workers answer that mean harm: one wrong bit, a failure, huge numbers, or nothing."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace

from lab.simulation.arithmetic import ReferenceRun
from lab.simulation.plan import WRONG_BIT
from microgpt.engine.answering import Answerer
from microgpt.protocol import messages
from worker.state import Job


def answer(
    lie: str, job: Job, seconds: float, reference_run: ReferenceRun, answerer: Answerer
) -> messages.Message | None:
    """The answer of a worker that tells this ``lie`` ("": an honest one); None if it gives none.

    ``seconds`` is the time that the job has taken; ``lie`` is one of ``plan.LIES``, or one
    that ``answerer`` tells, which does the work of replicas.
    """
    if lie == "lazy":
        return None
    computed = reference_run.calculate(job, seconds, answerer, lie=lie == WRONG_BIT)
    if lie == "failure":
        task = job.task
        place = task.step, task.start + task.count - 1, "no reason"
        return messages.Failure(task.run, task.epoch, *place, task.training, round=task.round)
    return exaggerate(computed) if lie == "huge" else computed


def exaggerate(answer: messages.Message) -> messages.Message:
    """A shard's result with the largest numbers there are in place of its own."""
    if not isinstance(answer, messages.ShardResult) or not answer.training:
        return answer  # a single loss of held-out documents would be a number, and believed
    number = struct.pack("<d", sys.float_info.max)
    if isinstance(answer, messages.ReplicaResult) and answer.payload:
        return answer
    gradient = {name: number * (len(part) // 8) for name, part in answer.gradient.items()}
    return replace(answer, losses=number * answer.count, gradient=gradient)
