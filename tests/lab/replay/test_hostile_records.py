"""Whatever stands in the files of a run, a replay ends with a verdict or with one sentence."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.event_json import EventError
from lab.replay.command import replay
from lab.replay.record import ReplayError
from microgpt.checkpoint.format import CheckpointError
from microgpt.data.documents import DatasetError
from microgpt.support.cli import UserError
from tests.marks import soak
from tests.processes import TINY, Lab

#: What is put in the place of something else.
ODD: list[Any] = [
    0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308, True, None, "x", "", [], [0], [1, 2], {},
    "rounds", "../x", "a\nb", [0, 1, 2, 3], -0.5, float("nan"),
]  # fmt: skip
FILES = ("config.json", "events.jsonl", "events.jsonl", "metrics.jsonl")


def spoil(plain: Any, rng: random.Random) -> Any:
    """Put something odd somewhere into nested maps and lists."""
    places: list[tuple[Any, Any]] = []
    waiting = [plain]
    while waiting:
        each = waiting.pop()
        inside = [*(each.items() if isinstance(each, dict) else enumerate(each))]
        places += [(each, key) for key, _ in inside]
        waiting += [value for _, value in inside if isinstance(value, dict | list)]
    where, key = rng.choice(places)
    where[key] = rng.choice(ODD)
    return plain


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """Other bytes; or lines that are missing, in another order, or odd."""
    if rng.random() < 0.2:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    lines = data.splitlines(keepends=True)
    if lines[0] == b"{\n":  # one value on many lines
        return json.dumps(spoil(json.loads(data), rng)).encode()
    place, what = rng.randrange(len(lines)), rng.random()
    if what < 0.15:
        del lines[place]
    elif what < 0.3:
        lines.insert(rng.randrange(len(lines)), lines[place])
    else:
        lines[place] = json.dumps(spoil(json.loads(lines[place]), rng)).encode() + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("examples", [20, soak(300)])
def test_a_spoiled_record_is_a_verdict_or_one_sentence(
    examples: int, lab: Lab, tmp_path: Path
) -> None:
    flags = ("--steps", "8", "--batch-size", "4", "--data", "embedded", "--engine", "scalar")
    held_out = ("--validation-fraction", "0.001", "--eval-every", "3", "--workers", "2")
    timing = ("--strategy", "easgd", "--strategy-option", "steps=2")
    train = lab.train(*TINY, *flags, *held_out, *timing)
    assert train.wait() == 0, train.err
    seed = random.SystemRandom().randrange(1 << 40)
    print(f"seeds {seed} to {seed + examples - 1}")
    good = lab.run_dir().path
    assert replay(good, None, "scalar", None, ()).difference == ""
    refused = 0
    for number in range(seed, seed + examples):
        rng, place = random.Random(number), tmp_path / "spoiled"
        shutil.copytree(good, place, ignore=shutil.ignore_patterns("logs"))
        file = place / rng.choice(FILES)
        file.write_bytes(spoiled(file.read_bytes(), rng))
        try:
            said = replay(place, None, "scalar", None, ()).difference
        except (ReplayError, EventError, CheckpointError, DatasetError, UserError) as error:
            said = str(error)
        refused += bool(said)
        assert len(said) < 1000, number
        shutil.rmtree(place)
    assert refused > examples / 3
