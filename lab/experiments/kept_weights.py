"""The weights of a run after its evaluated steps, in a file beside its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.support.atomic import write_atomically

WEIGHTS = "weights.npz"  # steps: (n,) int64; weights: (n, num_params) float64


def forget(weights: Mapping[int, Vector]) -> None:
    """Nobody wants to compare them."""


def keeping(directory: Path) -> Callable[[Mapping[int, Vector]], None]:
    """Writes the weights of evaluated steps into a run's directory."""

    def keep(weights: Mapping[int, Vector]) -> None:
        out, steps = BytesIO(), sorted(weights)
        np.savez(out, steps=np.array(steps), weights=np.array([weights[step] for step in steps]))
        write_atomically(directory / WEIGHTS, out.getvalue())

    return keep


def read_weights(directory: Path) -> dict[int, Vector]:
    """Those that ``keeping`` has written, by their steps; none if there is no such file."""
    try:
        with np.load(directory / WEIGHTS, allow_pickle=False) as kept:
            steps, weights = kept["steps"].tolist(), kept["weights"]
    except (OSError, ValueError, KeyError, BadZipFile):
        return {}
    return dict(zip(steps, weights, strict=True))
