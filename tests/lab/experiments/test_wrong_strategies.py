"""A strategy that is wrong shows up in its experiment, with real processes, some of them killed."""

from __future__ import annotations

import csv
from typing import Any

import pytest

import microgpt
from microgpt.strategies.local_sgd import LocalSGD
from tests.processes import NAMES, TINY_MODEL, Lab

SUMMED = '''
from dataclasses import dataclass, replace

from microgpt.strategies.local_sgd import LocalSGD


@dataclass(frozen=True)
class Summed(LocalSGD):
    """Divides the replicas' ways by one where it should divide by their number."""

    def update(self, view, round, results):
        after = super().update(view, round, results)
        way = after.params - view.state.params
        return replace(after, params=view.state.params + len(round.replicas) * way)
'''
TEXT = f"""schema = 1
title = "Sum or mean"
seeds = [42]
[base]
data = "names.txt"
workers = 2
replicas = 4
steps = 10
batch_size = 8
eval_every = 5
checkpoint_every = 2
validation_fraction = 0.2
learning_rate = 0.03
engine = "scalar"
fail = "worker=2:mtbf=4s,mttr=100ms"
on_failure = "restart"
{chr(10).join(f"{name} = {size}" for name, size in TINY_MODEL.items())}
[[case]]
name = "mean"
strategy = "local-sgd"
strategy_options = {{ steps = 2 }}
[[case]]
name = "sum"
strategy = "summed.py:Summed"
strategy_options = {{ steps = 2 }}
[measure]
losses = []
"""
SETTINGS: dict[str, Any] = {
    "steps": 10, "batch_size": 8, "replicas": 4, "seed": 42, "validation_fraction": 0.2,
    "eval_every": 5, "learning_rate": 0.03, "engine": "scalar", **TINY_MODEL,
}  # fmt: skip


@pytest.mark.soak
def test_a_mean_over_the_wrong_number_shows_in_table_and_sentence(lab: Lab) -> None:
    lab.slow_down(0.01)  # else it is over before a worker has been killed, after 0.44 s
    (lab.place / "summed.py").write_text(SUMMED)
    (lab.place / "it.toml").write_text(TEXT)
    process = lab.script("experiment", "it.toml")
    assert process.wait() == 0, process.err
    with open(lab.place / "results/it/table.csv", newline="") as file:
        right, wrong = (float(row["validation mean"]) for row in csv.DictReader(file))
    quiet = microgpt.train(NAMES, strategy=LocalSGD(steps=2), **SETTINGS)
    assert right == quiet.validations[-1].loss, "restarts from checkpoints change no bit"
    assert wrong > right + 0.2
    ends = f"the lowest validation loss at the end has mean ({right:.3f}); the highest has sum"
    assert f"{ends} ({wrong:.3f})." in process.out
    for events in (lab.place / "results/it/trials").glob("*/run/events.jsonl"):
        assert '"change": "killed"' in events.read_text(), "a worker was killed for real"
