"""Stands in for trackio, and for wandb: writes down what is called, one JSON list a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def _note(*call: object) -> None:
    with Path(os.environ["CALLS"]).open("a") as file:
        print(json.dumps(call), file=file)


def init(*, project: str, name: str, config: dict[str, Any]) -> None:
    _note("init", project, name, config)


def log(values: dict[str, Any], *, step: int) -> None:
    _note("log", step, values)


def finish() -> None:
    _note("finish")
