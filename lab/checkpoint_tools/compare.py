"""``diff``: which matrices moved between two checkpoints, and how far."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab.terminal import to_json, visible, warn
from microgpt.checkpoint.format import Checkpoint
from microgpt.checkpoint.newest import load_newest
from microgpt.parameters import from_bytes, split_bytes

COLUMNS = ("moved", "max", "mean", "rms", "relative")


@dataclass(frozen=True)
class Movement:
    """How numbers ``a`` became numbers ``b``.

    ``moved``: how many differ in any bit. ``max``, ``mean``, ``rms`` of the distances
    ``|b - a|``; ``relative`` is ``rms`` as a part of the RMS of ``a``, None if that is 0.
    """

    moved: int
    max: float
    mean: float
    rms: float
    relative: float | None


def measure(a: Sequence[float], b: Sequence[float]) -> Movement:
    """The distance from finite ``a`` to finite ``b``, of the same length, not 0."""
    farthest = sys.float_info.max  # instead of infinity, which JSON has no word for
    steps = [min(abs(y - x), farthest) for x, y in zip(a, b, strict=True)]
    size, distance = _rms(a), _rms(steps)
    relative = min(distance / size, farthest) if size else None
    moved = sum(x.hex() != y.hex() for x, y in zip(a, b, strict=True))
    mean = math.fsum(step / len(steps) for step in steps)
    return Movement(moved, max(steps), mean, distance, relative)


def _rms(numbers: Sequence[float]) -> float:
    """Root mean square, also of numbers whose squares would overflow."""
    largest = max(map(abs, numbers))
    if largest == 0.0:
        return 0.0
    return largest * math.sqrt(math.fsum((x / largest) ** 2 for x in numbers) / len(numbers))


def diff(options: argparse.Namespace) -> int:
    """Print how far each matrix moved from the first checkpoint to the second."""
    before = load_newest(options.before, report=warn)
    after = load_newest(options.after, before.training.model, warn)
    report = compare(before, after)
    if options.json:
        print(to_json(report, indent=2))
    else:
        _print(report)
    return 0


def compare(before: Checkpoint, after: Checkpoint) -> dict[str, Any]:
    """Steps, what is equal beside the weights, and the movement of each matrix and of all."""
    shapes = before.shapes
    old, new = (split_bytes(c.weights, shapes) for c in (before, after))
    moves = {name: measure(from_bytes(old[name]), from_bytes(new[name])) for name in shapes}
    whole = measure(from_bytes(before.weights), from_bytes(after.weights))
    return {
        "steps": [before.step, after.step],
        "runs": [before.run, after.run],
        "equal": {
            "state": before.state_sha256 == after.state_sha256,
            "weights": before.weights == after.weights,
            "adam": (before.adam_m, before.adam_v) == (after.adam_m, after.adam_v),
            "generator": before.rng_state == after.rng_state,
            "settings": before.training == after.training,
            "alphabet": before.tokenizer == after.tokenizer,
            "data": before.data == after.data,
            **_kept_alike(before, after),
        },
        "matrices": {
            name: {"size": rows * columns, **asdict(moves[name])}
            for name, (rows, columns) in shapes.items()
        },
        "all": {"size": before.num_params, **asdict(whole)},
    }


def _kept_alike(before: Checkpoint, after: Checkpoint) -> dict[str, bool]:
    """Whether strategies' vectors and replicas are equal, where there are any."""
    one, other = before.distributed, after.distributed
    kept = {}
    if one.slots or other.slots:
        kept["slots"] = one.slots == other.slots
    if one.replicas or other.replicas:
        pasts = (one.replicas, one.past_weights), (other.replicas, other.past_weights)
        kept["replicas"] = pasts[0] == pasts[1]
    return kept


def _print(report: dict[str, Any]) -> None:
    (before, after), equal = report["steps"], report["equal"]
    runs = " and ".join(dict.fromkeys(report["runs"]))
    print(f"step {before} to step {after} of {visible(runs)}")
    same = [name for name, is_equal in equal.items() if is_equal]
    other = [name for name, is_equal in equal.items() if not is_equal]
    print(f"equal: {', '.join(same) or 'nothing'}; different: {', '.join(other) or 'nothing'}")
    rows = {**report["matrices"], "all": report["all"]}
    width = max(map(len, rows))
    print(f"{'':{width}}  {'moved':>13}" + "".join(f"  {name:>9}" for name in COLUMNS[1:]))
    for name, row in rows.items():
        moved = f"{row['moved']}/{row['size']}"
        numbers = [row[column] for column in COLUMNS[1:]]
        cells = "".join(f"  {'-' if x is None else format(x, '.3g'):>9}" for x in numbers)
        print(f"{name:{width}}  {moved:>13}{cells}")
