"""A run directory as it is read by those who show runs: settings, steps, checkpoints, how it ended.

It may come from anywhere and be half written. What is not as it should be is one sentence.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from coordinator.run.directory_owner import CONFIG
from lab.replay.run_files import METRICS, MOST_BYTES
from lab.report.ending import Ending, read_ending
from microgpt.config import MAX_STEPS

MOST_LINE = 1 << 20  # bytes of a line of the metrics
MOST_SECONDS = 1e9  # of a step: thirty years
MOST_TEXT = 200  # letters of a setting that are kept
MOST_WHOLE = 1 << 63  # a setting that is a whole number is smaller, or it is shown as text
Scalar = bool | int | float | str | None


class RunError(Exception):
    """A run directory cannot be read; the message is one sentence."""


@dataclass(frozen=True)
class Steps:
    """What the metrics tell of each step, in columns of one length, ordered by step.

    ``losses`` in nats per token; ``seconds`` of work on the step; ``sent`` and ``received`` bytes
    at the coordinator. ``validations``: pairs of a step and the loss of the held-out documents.
    """

    numbers: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last step, 0 if there is none."""
        return self.numbers[-1] if self.numbers else 0

    @property
    def documents_per_second(self) -> float | None:
        """Over all steps; None if there are none."""
        took = sum(self.seconds)
        return sum(self.documents) / took if took > 0 else None

    def bytes_per_step(self) -> tuple[float, float] | None:
        """Sent and received, on the average; None if there are no steps."""
        many = len(self.numbers)
        return (sum(self.sent) / many, sum(self.received) / many) if many else None


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says. ``settings``: flat, in the order of the record.

    ``conditions``: flags such as ``--link latency=20ms``, as they were given.
    """

    path: Path
    run: str
    strategy: str
    promise: str
    total: int
    settings: Mapping[str, Scalar]
    conditions: tuple[str, ...]
    steps: Steps
    ending: Ending

    @property
    def name(self) -> str:
        """The folder's name."""
        return _text(self.path.name or str(self.path))


def read_run(path: Path) -> RunRecord:
    """All of it but checkpoints and events. Raises RunError."""
    head = read_head(path)
    return replace(head, steps=read_steps(path / METRICS), ending=read_ending(path))


def read_head(path: Path) -> RunRecord:
    """What stands in the record of its start; no steps, and no ending. Raises RunError."""
    plain = read_config(path / CONFIG)
    try:
        training, run = plain["training"], plain["run"]
        strategy, total = training.get("strategy", "sync"), training["steps"]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path / CONFIG} is not the record of a run") from error
    named = isinstance(run, str) and isinstance(strategy, str)
    if not (named and type(total) is int and 0 < total <= MAX_STEPS):
        raise RunError(f"{path / CONFIG} is not the record of a run")
    promise, conditions = plain.get("promise"), plain.get("conditions")
    return RunRecord(
        path,
        _text(run),
        _text(strategy),
        _text(promise) if isinstance(promise, str) else "-",
        total,
        flat_settings(plain),
        tuple(_text(c) for c in conditions) if isinstance(conditions, list) else (),
        Steps(),
        Ending("unknown"),
    )


def read_config(file: Path) -> dict[str, Any]:
    """The record as it is. Raises RunError."""
    try:
        with open_file(file) as opened:
            plain = json.loads(opened.read(MOST_BYTES))
    except FileNotFoundError as error:
        raise RunError(f"there is no {file}: this is no run, or not yet") from error
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is not JSON") from error
    if not isinstance(plain, dict):
        raise RunError(f"{file} is not the record of a run")
    return plain


def open_file(path: Path) -> BinaryIO:
    """Open a file and nothing else: a pipe would be waited for. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a file", str(path))
    return os.fdopen(descriptor, "rb")


# --- settings ------------------------------------------------------------------------------------

#: Groups whose members stand alone: their names are known well enough.
KNOWN = ("model", "adam", "distribution")
#: Of ``settings`` in ``config.json``: what may explain how a run went.
USED = ("shard_size", "eval_every", "checkpoint_every", "verify_fraction", "worker_timeout")
SHORT = {"strategy_options": "option"}
OWN = ("strategy", "steps")  # shown elsewhere


def flat_settings(plain: Mapping[str, Any]) -> dict[str, Scalar]:
    """The settings of a ``config.json`` by simple names, each a number or a text."""
    found: dict[str, Scalar] = {}
    for name, value in plain["training"].items():
        if name in OWN:
            continue
        members = [*value.items()] if isinstance(value, dict) else [("", value)]
        for inner, member in members:
            group = "" if name in KNOWN else SHORT.get(name, name)
            whole = " ".join(filter(None, (group, inner)))
            found[_text(whole)] = _scalar(member)
    data, workers, settings = (_part(plain, part) for part in ("data", "workers", "settings"))
    found["data"] = _scalar(data.get("name"))
    found["data sha256"] = _text(data.get("sha256"))[:12]
    found["workers"] = _scalar(workers.get("number"))
    found["engine"] = _scalar(workers.get("engine"))
    found |= {name: _scalar(settings[name]) for name in USED if name in settings}
    libm = _part(plain, "platform").get("libm_sha256")
    found["libm sha256"] = _text(libm)[:12]
    return found


def differing(runs: list[RunRecord]) -> list[str]:
    """Names of the settings in which the runs differ, in the order of the first ones."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [n for n in names if len({repr(run.settings.get(n)) for run in runs}) > 1]


def setting_text(value: Scalar) -> str:
    """A setting for people."""
    if value is None or value == "":
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(plain: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = plain.get(name)
    return value if isinstance(value, dict) else {}


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -MOST_WHOLE < value < MOST_WHOLE:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _text(value)


def _text(value: object) -> str:
    """The beginning of a text, or of a value as JSON, in letters that can be written anywhere."""
    text = (value if isinstance(value, str) else json.dumps(value))[:MOST_TEXT]
    return text.encode(errors="replace").decode()


# --- steps ---------------------------------------------------------------------------------------


def read_steps(file: Path) -> Steps:
    """The steps in a ``metrics.jsonl``; none if there is no such file. Raises RunError.

    Of a step that stands there twice the later line counts.
    """
    found: dict[int, dict[str, Any]] = {}
    try:
        with open_file(file) as opened:
            for number, line in enumerate(_lines(opened), 1):
                plain = step_record(line, f"{file}, line {number}")
                found[plain["step"]] = plain
    except FileNotFoundError:
        return Steps()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    steps = Steps()
    for step, plain in sorted(found.items()):
        steps.numbers.append(step)
        steps.losses.append(plain["loss"])
        steps.seconds.append(plain.get("seconds", 0.0))
        steps.documents.append(plain.get("documents", 0))
        steps.sent.append(plain.get("bytes_sent", 0))
        steps.received.append(plain.get("bytes_received", 0))
        if "validation_loss" in plain:
            steps.validations.append((step, plain["validation_loss"]))
    return steps


def _lines(opened: BinaryIO) -> Iterator[bytes]:
    """Whole lines: the last one may be half written, or its writer was killed."""
    while (line := opened.readline(MOST_LINE)).endswith(b"\n"):
        yield line
    if len(line) == MOST_LINE:
        raise RunError(f"{opened.name} has a line of more than a mebibyte")


def step_record(line: bytes, where: str) -> dict[str, Any]:
    """A line of the metrics. Raises RunError, which begins with ``where``."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where}: it is no record of a step") from error
    if not isinstance(plain, dict) or "loss" not in plain:
        raise RunError(f"{where}: it is no record of a step")
    step = plain.get("step")
    if type(step) is not int or not 0 < step <= MAX_STEPS:
        raise RunError(f"{where}: {str(step)[:40]!r} is no step")
    for name in ("loss", "validation_loss", "seconds"):
        value = plain.get(name, 0.0)
        if type(value) is not float or not math.isfinite(value):
            raise RunError(f"{where}: {str(value)[:40]!r} is no {name}")
    if not 0.0 <= plain.get("seconds", 0.0) <= MOST_SECONDS:
        raise RunError(f"{where}: a step does not take {plain['seconds']:.40g} seconds")
    for name in ("documents", "bytes_sent", "bytes_received"):
        value = plain.get(name, 0)
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise RunError(f"{where}: {str(value)[:40]!r} is no {name}")
    return plain
