"""What the model of a run invents, early, in the middle and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.replay.run_files import Checkpoints
from lab.report.reading import RunRecord
from microgpt.sampling import generate

MANY = 6  # documents of a checkpoint
MOST_PARAMETERS = 50_000  # larger models are slow in plain Python


@dataclass(frozen=True)
class Samples:
    """``invented``: pairs of a step and documents. ``remark``: why there are none."""

    invented: Sequence[tuple[int, Sequence[str]]] = ()
    remark: str = ""


def read_samples(run: RunRecord) -> Samples:
    """Documents that continue the generator of each checkpoint. Raises nothing."""
    checkpoints = Checkpoints(run.path, run.run)
    found: list[tuple[int, list[str]]] = []
    for step in _chosen([step for step in checkpoints.steps if step > 0]):
        for _, loaded in checkpoints.of(step):
            if loaded.num_params > MOST_PARAMETERS:
                many = f"{loaded.num_params:,} parameters"
                return Samples(remark=f"the model has {many}: sample it with microgpt sample")
            model, tokenizer = loaded.training.model, loaded.tokenizer
            names = generate(loaded.state_dict(), model, tokenizer, loaded.rng(), num_samples=MANY)
            try:
                found.append((step, [*names]))
            except (ArithmeticError, ValueError):
                return Samples(found, f"the model's numbers overflow after step {step:,}")
            break
    return Samples(found, "" if found else "there is no good checkpoint after a step")


def _chosen(steps: Sequence[int]) -> list[int]:
    """The first, a middle and the last one."""
    return sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
