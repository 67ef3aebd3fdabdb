"""Runs what is still to be run: simulated ones side by side, those whose time counts alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.experiments import real
from lab.experiments.expansion import Trial
from lab.experiments.measurement import FAILED, Measurement
from lab.experiments.store import Store
from microgpt.support import signals
from microgpt.support.isolation import isolated

ONE_TRIAL = "lab.experiments.one_trial"
SAID = "said"
POLL_SECONDS = 0.02
#: How long a run that is broken off may take to end its workers.
LEAVE_SECONDS = 15.0
MOST_WORDS = 4096  # bytes of what a process has said last


@dataclass
class Running:
    """A process that is at work on a run."""

    trial: Trial
    process: subprocess.Popen[bytes]
    place: Path
    began: float


def run_all(
    trials: Sequence[Trial], store: Store, folder: Path, jobs: int, *, alone: bool
) -> Iterator[tuple[Trial, Measurement]]:
    """Each run with what it has shown, in the order in which they end; all is on the disk then.

    Up to ``jobs`` go on at once. Real ones are ``alone`` if their time counts. No process is left,
    however this ends.
    """
    virtual = [trial for trial in trials if trial.simulation is not None]
    others = [trial for trial in trials if trial.simulation is None]
    for group, most in ((virtual, jobs), (others, 1 if alone else jobs)):
        waiting, running = list(group), list[Running]()
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    running.append(_start(waiting.pop(0), store, folder))
                for each in [one for one in running if one.process.poll() is not None]:
                    running.remove(each)
                    yield each.trial, _finish(each, store)
                time.sleep(POLL_SECONDS)
        finally:
            _end(running)


def _start(trial: Trial, store: Store, folder: Path) -> Running:
    place = store.begin(trial, folder)
    if trial.simulation is None:
        command = real.command(trial, place, folder)
    else:
        command = isolated(ONE_TRIAL, str(place), str(os.getpid()))
    with open(place / SAID, "wb") as said, signals.held_back():
        process = subprocess.Popen(  # noqa: S603  # our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=real.environment(),
            start_new_session=True,  # Ctrl-C is for us, and we end it
        )
    return Running(trial, process, place, time.monotonic())


def _finish(each: Running, store: Store) -> Measurement:
    """What a run has shown whose process is over."""
    wall, words = time.monotonic() - each.began, _last_words(each.place / SAID)
    if each.trial.simulation is None:
        found = real.collect(each.place, words, wall, weights=each.trial.weights)
    else:
        whole = store.found(each.trial)
        if whole is not None:
            return whole
        found = Measurement(FAILED, words or "the simulation has ended without a word", wall)
    store.keep(each.trial, found)
    return found


def _end(running: Sequence[Running]) -> None:
    """Let what still runs leave, and see to it that nothing of it is left."""
    try:
        for each in running:
            each.process.send_signal(signal.SIGINT)
        for each in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(LEAVE_SECONDS)
    finally:
        for each in running:
            if each.process.returncode is None or each.process.returncode < 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(each.process.pid, signal.SIGKILL)
                each.process.wait()


def _last_words(path: Path) -> str:
    """The error that a process has told, or the last line that it has written."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_WORDS))
        lines = file.read().decode(errors="replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines[-1:] or [""])[0]
