"""How far a run is from another one of the same seed: by its weights and its held-out loss.

    distance = |w - w_ref| / |w_ref|      differing_weights: how many have another bit
    loss_difference = |loss - loss_ref|

All are of the steps that both have evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lab.experiments.expansion import Trial
from lab.experiments.kept_weights import read_weights
from lab.experiments.measurement import DONE, Measurement
from lab.experiments.store import Store
from lab.experiments.wanted import DISTANCES
from microgpt.numerics.reductions import norm
from microgpt.numerics.vectors import Vector


def comparison(
    trials: Sequence[Trial],
    found: Mapping[str, Measurement],
    reference: Mapping[str, str],
    store: Store,
) -> Callable[[Trial], Measurement]:
    """Gives what a run has shown, with its distances from the one that it is compared with.

    That has the same seed, and the labels of ``reference`` in the place of its own.
    """
    by_labels = {(frozenset(each.case.labels.items()), each.seed): each for each in trials}

    def compared(trial: Trial) -> Measurement:
        labels = frozenset({**trial.case.labels, **reference}.items())
        other = by_labels.get((labels, trial.seed)) if reference else None
        run = found[trial.digest]
        if other is None or run.outcome != DONE or found[other.digest].outcome != DONE:
            return run
        ours, theirs = (read_weights(store.place(each)) for each in (trial, other))
        told = apart(run, ours, found[other.digest], theirs)
        return replace(run, numbers={**run.numbers, **told})

    return compared


def apart(
    run: Measurement,
    weights: Mapping[int, Vector],
    reference: Measurement,
    its_weights: Mapping[int, Vector],
) -> dict[str, tuple[tuple[int, float], ...]]:
    """The three numbers for each step that both have evaluated, and whose weights there are."""
    losses, its_losses = dict(run.validations), dict(reference.validations)
    columns: dict[str, list[tuple[int, float]]] = {name: [] for name in DISTANCES}
    for step in sorted(losses.keys() & its_losses.keys() & weights.keys() & its_weights.keys()):
        ours, theirs = weights[step], its_weights[step]
        differing = np.count_nonzero(_bits(ours) != _bits(theirs))
        difference = abs(losses[step] - its_losses[step])
        numbers = norm(ours - theirs) / norm(theirs), float(differing), difference
        for name, number in zip(DISTANCES, numbers, strict=True):
            columns[name].append((step, number))
    return {name: tuple(column) for name, column in columns.items()}


def _bits(vector: Vector) -> NDArray[np.int64]:
    return np.ascontiguousarray(vector).view(np.int64)
