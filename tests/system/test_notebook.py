"""``microgpt.train(..., workers=N)``: real processes, the same bits, and none left behind."""

from __future__ import annotations

import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import microgpt
from microgpt.strategies.base import StrategyError
from microgpt.strategies.sync import Sync
from tests.marks import soak
from tests.processes import NAMES, ROOT, TINY_MODEL, Lab, eventually
from tests.strategies_of_users import EverySecond

SETTINGS: dict[str, Any] = {**TINY_MODEL, "steps": 4, "batch_size": 6, "engine": "scalar"}
DILOCO: dict[str, Any] = {
    "strategy": "diloco", "strategy_options": {"steps": 2}, "replicas": 3,
    "compress": "topk:0.5", "error_feedback": False, "outer_optimizer": "sgd:0.9",
    "validation_fraction": 0.2, "eval_every": 3,
}  # fmt: skip
ENDLESS = f"""
import microgpt

def tell(step, loss):
    if step == 3:
        print("under way", flush=True)

names = {NAMES!r}
microgpt.train(
    names, steps=100_000, batch_size=6, workers=2, engine="scalar", progress=tell, **{TINY_MODEL!r}
)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs of notebooks have their folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def left_of(place: Path) -> list[str]:
    """Command lines of processes of runs in this place, and what is left of their folders."""
    found = [str(path) for path in place.glob("microgpt-*")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{place}/microgpt-" in words:
                found.append(words)
    return found


@pytest.mark.parametrize("more", [soak({}, id="sync"), pytest.param(DILOCO, id="diloco")])
def test_real_processes_give_the_bits_of_one(
    more: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROGPT_STEPS", "7")  # of a shell: settings come from the call alone
    alone = microgpt.train(NAMES, **SETTINGS, **more)
    seen: list[tuple[int, float]] = []
    result = microgpt.train(
        NAMES, **SETTINGS, **more, workers=2, progress=lambda step, loss: seen.append((step, loss))
    )
    assert result.checkpoint.state_sha256 == alone.checkpoint.state_sha256
    assert result.checkpoint.training == alone.checkpoint.training
    assert result.checkpoint.data == alone.checkpoint.data
    assert (result.losses, result.validations) == (alone.losses, alone.validations)
    assert seen == list(enumerate(result.losses, 1))
    assert repr(result) == repr(alone)
    assert min(result.seconds, alone.seconds, result.bytes_sent, result.bytes_received) > 0
    kinds = [event["kind"] for event in result.events]
    assert kinds[0] == "started"
    assert kinds.count("joined") in (1, 2)  # one may have done it all before the other is there
    assert (alone.events, alone.bytes_received) == ((), 0)
    assert left_of(place) == []


def test_an_exception_of_the_caller_ends_the_run(place: Path) -> None:
    def full(step: int, loss: float) -> None:
        raise LookupError(step)

    with pytest.raises(LookupError, match="1"):
        microgpt.train(NAMES, **{**SETTINGS, "steps": 100_000}, workers=1, progress=full)
    assert left_of(place) == []


@pytest.mark.parametrize("number", [soak(signal.SIGINT), signal.SIGKILL])
def test_nothing_is_left_of_a_notebook_that_ends(number: signal.Signals, lab: Lab) -> None:
    lab.env["TMPDIR"] = str(lab.place)
    notebook = lab.start(sys.executable, "-c", ENDLESS, name="notebook")
    notebook.says("under way")
    assert len(left_of(lab.place)) >= 4
    notebook.send(number)
    code = notebook.wait()
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in notebook.err
        assert left_of(lab.place) == []
    assert code in (-number, 1, 130)
    folders = {str(path) for path in lab.place.glob("microgpt-*")}
    eventually(lambda: set(left_of(lab.place)) <= folders, "the processes of the run end")
    assert {path.name[:17] for path in map(Path, left_of(lab.place))} <= {"microgpt-notebook"}


def test_what_processes_cannot_have_is_told_before_they_start(place: Path) -> None:
    @dataclass(frozen=True)
    class Mine(Sync):
        pass

    Mine.__module__ = "a_cell"
    with pytest.raises(ValueError, match=r"put the strategy into a file"):
        microgpt.train(NAMES, **SETTINGS, workers=1, strategy=Mine())
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        microgpt.train(NAMES, **SETTINGS, workers=0)
    with pytest.raises(StrategyError, match="did you mean sync"):
        microgpt.train(NAMES, **SETTINGS, workers=1, strategy="sinc")
    assert left_of(place) == []


@pytest.mark.soak
def test_a_strategy_of_a_file_is_found_by_its_object(place: Path) -> None:
    alone = microgpt.train(NAMES, **SETTINGS, strategy=EverySecond(every=3))
    named = f"{ROOT / 'tests/strategies_of_users.py'}:EverySecond"
    assert alone.checkpoint.training.strategy == named
    result = microgpt.train(NAMES, **SETTINGS, strategy=EverySecond(every=3), workers=1)
    assert result.checkpoint.state_sha256 == alone.checkpoint.state_sha256


def test_a_run_that_fails_says_why(place: Path) -> None:
    wrong = f"{ROOT / 'tests/compressors_of_users.py'}:Wrong"
    with pytest.raises(microgpt.RunError) as caught:
        microgpt.train(NAMES, **SETTINGS, workers=1, compress=wrong)
    assert "compressor Wrong: compress raises KeyError: 'on purpose' (line " in str(caught.value)
    with pytest.raises(microgpt.RunError, match="makes a weight or the loss infinite") as caught:
        microgpt.train(NAMES, **SETTINGS, workers=1, learning_rate=1e300)
    assert str(place) not in str(caught.value)
    assert left_of(place) == []


@pytest.mark.soak
def test_messages_of_a_run_meet_what_the_link_says(place: Path) -> None:
    result = microgpt.train(NAMES, **SETTINGS, workers=1, link=["latency=60ms"])
    assert result.seconds > 4 * 2 * 0.06
    alone = microgpt.train(NAMES, **SETTINGS)
    assert result.checkpoint.state_sha256 == alone.checkpoint.state_sha256
    with pytest.raises(microgpt.RunError, match="--link 'latency=soon': 'soon' is no number"):
        microgpt.train(NAMES, **SETTINGS, workers=1, link="latency=soon")
