"""Starts ``microgpt train`` beside a notebook, and ends all of it however the notebook goes on.

The library knows no sockets and no coordinator: it starts the program that does, in a folder of its
own that is removed afterwards, and reads what the run has written down.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.documents import Dataset
from microgpt.result import TrainingResult, load_run
from microgpt.strategies.base import Strategy
from microgpt.support import signals
from microgpt.support.environment import PREFIX
from microgpt.support.isolation import isolated

PROGRAM = "lab.command_line"
SIMULATION = "lab.simulation.for_notebooks"
POLL_SECONDS = 0.05
#: How long a run that is broken off may take to save its state and end its workers.
LEAVE_SECONDS = 15.0
#: Variables that a run sees; all settings come from the call, as they do in one process.
KEPT = (f"{PREFIX}CACHE_DIR", f"{PREFIX}COMPILED_DIR", f"{PREFIX}NAMES_URL")

Report = Callable[[int, float], None]


class RunError(Exception):
    """A run with processes has failed; the message is what it has said last."""


def run(
    config: TrainingConfig,
    dataset: Dataset,
    workers: int,
    *,
    engine: str,
    eval_every: int,
    link: Sequence[str] = (),
    progress: Report | None = None,
) -> TrainingResult:
    """Train with ``workers`` processes; see ``microgpt.train``.

    Raises ValueError for a strategy that stands in no file, and RunError.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-notebook-") as folder:
        place = Path(folder)
        data = dataset.name
        if data == "in memory":
            data = str(place / "documents.txt")
            Path(data).write_text("\n".join(dataset.documents) + "\n", encoding="utf-8")
        more = [word for text in link for word in ("--link", text)]
        command = [
            "train", *flags_of(config), *more, "--data", data, "--engine", engine,
            "--eval-every", str(eval_every), "--workers", str(workers),
            "--run-dir", str(place / "run"), "--parent", str(os.getpid()), "--quiet",
        ]  # fmt: skip
        _train(command, place, progress)
        result = load_run(place / "run")
    return replace(result, checkpoint=replace(result.checkpoint, data=dataset.fingerprint()))


def simulate(
    strategy: Strategy,
    config: TrainingConfig,
    dataset: Dataset,
    corpus: Corpus,
    workers: int,
    **more: Any,
) -> TrainingResult:
    """Train with virtual workers in virtual time; see ``microgpt.train``.

    Raises ValueError for conditions that cannot be, and RunError.
    """
    simulation = importlib.import_module(SIMULATION)  # the library rests on nothing of it
    try:
        result: TrainingResult = simulation.run(strategy, config, dataset, corpus, workers, **more)
    except simulation.InvariantViolationError as error:
        raise RunError(str(error)) from error
    return result


def flags_of(config: TrainingConfig) -> list[str]:
    """The flags of ``microgpt train`` that give these settings. Raises ValueError."""
    if ":" in config.strategy and ".py:" not in config.strategy:
        raise ValueError(
            f"worker processes cannot find {config.strategy}: put the strategy into a file, and "
            'name it as strategy="FILE.py:Class"'
        )
    plain = config.to_dict()
    model = {name: size for name, size in plain["model"].items() if name != "vocab_size"}
    rest = ("steps", "batch_size", "seed", "validation_fraction", "strategy")
    given = {**model, **plain["adam"], **{name: plain[name] for name in rest}}
    flags = [word for name, value in given.items() for word in (_flag(name), str(value))]
    for key, value in config.strategy_options.items():
        flags += ["--strategy-option", f"{key}={value}"]
    for name, value in plain["distribution"].items():
        if isinstance(value, bool):
            flags.append(_flag(name if value else f"no_{name}"))
        elif value:
            flags += [_flag(name), str(value)]
    return flags


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _train(command: list[str], place: Path, progress: Report | None) -> None:
    """Run the program to its end. Raises RunError, and ends it if anything is raised here."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) or k in KEPT}
    process: subprocess.Popen[bytes] | None = None
    metrics = _Metrics(place / "run" / "metrics.jsonl", progress)
    try:
        with open(place / "said", "wb") as said, signals.held_back():
            process = subprocess.Popen(  # noqa: S603  # our own program
                isolated(PROGRAM, *command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            metrics.tell()
    finally:
        if process is not None:
            _end(process)
    if process.returncode:
        raise RunError(_last_words(place / "said"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a run that still goes on leave, and see to it that nothing of it is left."""
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_SECONDS)
    finally:
        if process.returncode is None or process.returncode < 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_words(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:  # what is saved is about to be deleted
        return errors[0].removeprefix("error: ").partition(" (the state before is saved in ")[0]
    told = [line for line in lines if " cannot work: " in line] or lines[-1:]
    return told[0] if told else "the run has failed and said nothing"


class _Metrics:
    """Tells each step of a run once, as its line is written."""

    def __init__(self, path: Path, progress: Report | None) -> None:
        self._path, self._progress = path, progress
        self._place, self._step = 0, 0

    def tell(self) -> None:
        """Call ``progress`` for the steps that have come since."""
        if self._progress is None:
            return
        for line in self._new_lines():
            record = json.loads(line)
            if record["step"] > self._step:
                self._step = record["step"]
                self._progress(record["step"], record["loss"])

    def _new_lines(self) -> Iterator[bytes]:
        """Whole lines; all of them again where a coordinator that came back has cut some off."""
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._place:
                    self._place = 0
                file.seek(self._place)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        if newline:
            self._place += len(whole) + 1
            yield from whole.split(b"\n")
