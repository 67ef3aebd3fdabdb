"""What the processes of a run take of this machine, for a simulation of runs on it.

Measured once for all results of a folder, by short real runs (``lab.bench.scale``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.bench.scale.model import Costs

FILE = "machine.json"
SECONDS, REPEATS = 1.0, 5  # of each run, and turns


@dataclass(frozen=True)
class OneMachine:
    """``processors`` that all processes share, and what they take of them."""

    processors: int
    costs: Costs


def from_plain(plain: Mapping[str, Any]) -> OneMachine:
    """What ``asdict`` has made of one. Raises TypeError, KeyError."""
    return OneMachine(int(plain["processors"]), Costs(**plain["costs"]))


def measure(settings: Mapping[str, Any]) -> OneMachine:
    """With the model that an experiment's settings name. Raises ClickException."""
    from lab.bench.scale.running import calibrate

    flags = list[str]()
    for name in ("n_layer", "n_head", "block_size", "engine"):
        flags += [f"--{name.replace('_', '-')}", str(settings[name])]
    made = calibrate(settings["n_embd"], "embedded", SECONDS, REPEATS, flags)
    return OneMachine(made.processors, made.costs)


def read(folder: Path) -> dict[str, OneMachine]:
    """What was measured before for this folder, by ``pace.key_of``."""
    try:
        plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {str(key): from_plain(each) for key, each in plain.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def to_json(known: Mapping[str, OneMachine]) -> str:
    """The text of the file."""
    return json.dumps({key: asdict(each) for key, each in known.items()}, indent=1) + "\n"
