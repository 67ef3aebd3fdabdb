"""A run of real processes, computed anew from its record in one process: the same bits."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.events import Level, RoundClosed, RoundOpened, RoundOutcome, Started
from microgpt.checkpoint.format import load
from microgpt.strategies.base import Promise
from microgpt.strategies.registry import STRATEGIES
from tests.marks import soak
from tests.processes import ROOT, TINY, Lab, Process, RunDir, eventually
from tests.sharing import folder_of_the_run, once
from tests.system.test_system_resume import on_disk
from tests.system.test_system_workers import find_child, signal_process

pytestmark = pytest.mark.timeout(300)
STEPS, LATE = 60, 30
MINE = f"{ROOT / 'tests/strategies_of_users.py'}:OneEach"
SIZE = (*TINY, "--batch-size", "3", "--data", "embedded", "--engine", "scalar")


def replay(lab: Lab, run: RunDir | Path, *flags: str, trust: bool = True) -> Process:
    """The command, at its end."""
    path = run if isinstance(run, Path) else run.path
    trusted = ("--trust", MINE) if trust else ()
    process = lab.script("replay", str(path), "--engine", "scalar", *trusted, *flags)
    process.wait()
    return process


def train_with_accidents(place: Path, strategy: str = MINE) -> None:
    """A run whose worker and whose coordinator are killed."""
    lab = Lab(place)
    try:
        lab.slow_down(0.005)
        timing = ("--strategy", strategy, "--checkpoint-every", "4")
        held_out = ("--validation-fraction", "0.002", "--eval-every", "7")
        train = lab.train(*SIZE, "--steps", str(STEPS), "--workers", "3", *timing, *held_out)
        run = lab.run_dir()
        run.happens("joined", 3)
        run.reaches(5)
        signal_process(find_child(train, "worker-1"), signal.SIGKILL)
        run.happens("lost")
        eventually(lambda: on_disk(run) >= 12, "a checkpoint of step 12")
        signal_process(find_child(train, "coordinator"), signal.SIGKILL)
        assert train.wait() == 0, train.err
        assert "the coordinator was killed (SIGKILL); starting it again" in train.out + train.err
        assert ": replayable: timing decides the bits" in train.out
    finally:
        lab.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of that run; look, do not touch."""
    folder = folder_of_the_run(tmp_path_factory.getbasetemp())
    place = folder / "accidents"
    with once(folder, "accidents") as ours:
        if ours:
            shutil.rmtree(place, ignore_errors=True)  # of one that has failed
            place.mkdir()
            train_with_accidents(place)
    return place / "runs" / "it"


@pytest.fixture
def mine(kept: Path, tmp_path: Path) -> RunDir:
    """A copy of it, to be tampered with."""
    return RunDir(shutil.copytree(kept, tmp_path / "mine"))


def test_a_run_with_killed_processes_is_computed_anew(lab: Lab, kept: Path) -> None:
    run = RunDir(kept)
    done = replay(lab, kept)
    assert done.wait() == 0, done.err
    saved = load(run.newest)
    assert saved.step == STEPS
    assert f"state_sha256 {saved.state_sha256}" in done.out
    assert f"replayed {STEPS} steps: same bits as " in done.out
    assert f" and {STEPS} recorded losses" in done.out
    begun = run.events(Started)
    assert [event.level for event in begun] == [Level.ROUNDS] * 2, "without being asked to"
    assert begun[1].version >= 12
    versions = [event.version for event in run.events(RoundOpened) if not event.evaluation]
    assert len(set(versions)) < len(versions), "several rounds began with the same weights"
    assert json.loads((kept / "config.json").read_text())["promise"] == "replayable"


@pytest.mark.parametrize(
    "name", [soak(n) for n, kind in STRATEGIES.items() if kind().promise is Promise.REPLAYABLE]
)
def test_so_is_one_of_each_strategy_of_timing(name: str, lab: Lab) -> None:
    train_with_accidents(lab.place, name)
    done = replay(lab, lab.run_dir(), trust=False)
    assert done.wait() == 0, done.err
    assert f"state_sha256 {load(lab.run_dir().newest).state_sha256}" in done.out
    assert f"replayed {STEPS} steps" in done.out


@pytest.mark.soak
def test_it_may_end_early_and_by_the_other_engine(lab: Lab, kept: Path) -> None:
    done = replay(lab, kept, "--until", "8", "--engine", "tape")
    assert done.wait() == 0, done.err
    assert "replayed 8 steps: same bits as " in done.out
    assert load(kept / "checkpoints/step-00000008.msgpack").state_sha256 in done.out
    beyond = replay(lab, kept, "--until", str(STEPS + 1))
    assert beyond.wait() == 1
    assert beyond.err == f"error: the record leads to step {STEPS}, and not to step {STEPS + 1}\n"


def test_a_file_that_the_record_names_is_not_run_unasked(lab: Lab, kept: Path) -> None:
    done = replay(lab, kept, trust=False)
    assert done.wait() == 1
    assert done.err == (
        f"error: the run uses {MINE}: to run that file, say so with --trust {MINE}\n"
    )


def opens(event: Any) -> bool:
    return isinstance(event, RoundOpened) and not event.evaluation


def steps_after(events: list[Any], opened: RoundOpened) -> int:
    """Which step the round of an event of this epoch has made; 0 if it has made none."""
    version: int = events[0].version
    for event in events:
        if isinstance(event, RoundClosed) and event.outcome is RoundOutcome.APPLIED:
            version += 1
            if event.round == opened.round:
                return version
    return 0


def change(path: Path, which: Callable[[dict[str, Any]], bool], **changes: Any) -> None:
    """Change the last line of a record that is like this."""
    lines = path.read_text().splitlines()
    place = max(n for n, line in enumerate(lines) if which(json.loads(line)))
    lines[place] = json.dumps({**json.loads(lines[place]), **changes})
    path.write_text("".join(f"{line}\n" for line in lines))


def test_the_first_step_that_was_tampered_with_is_found(lab: Lab, mine: RunDir) -> None:
    events, metrics = mine.path / "events.jsonl", mine.path / "metrics.jsonl"
    (loss,) = (line["loss"] for line in mine.metrics if line["step"] == LATE)
    change(metrics, lambda line: line["step"] == LATE, loss=loss + 1e-15)
    done = replay(lab, mine)
    assert done.wait() == 1
    expected = f"step {LATE} differs: its loss is {loss + 1e-15!r} in metrics.jsonl, and {loss!r}"
    assert done.err == f"error: {expected} in the replay\n"

    change(metrics, lambda line: line["step"] == LATE, loss=loss)
    epoch = max(n for n, each in enumerate(mine.recorded) if isinstance(each.event, Started))
    rounds: list[Any] = [each.event for each in mine.recorded[epoch:]]
    made = ((event.round, steps_after(rounds, event)) for event in rounds if opens(event))
    number, step = next((number, step) for number, step in made if step > LATE)
    change(events, lambda line: line["kind"] == "round_opened" and line["round"] == number, first=0)
    done = replay(lab, mine)
    assert done.wait() == 1
    assert done.err.startswith(f"error: step {step} differs: its loss is ")


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("config.json", "[", "config.json is not JSON"),
        soak("config.json", "[" * 100_000, "config.json is not JSON"),
        soak("config.json", "[1]", "config.json is not the record of a run"),
        soak("config.json", '{"run": 1}', "config.json is not the record of a run"),
        soak("metrics.jsonl", "[]\n", "metrics.jsonl, line 1: it is no record of a step"),
        ("metrics.jsonl", '{"step": 1, "loss": NaN}\n', "metrics.jsonl, line 1: 'nan' is no loss"),
        soak(
            "metrics.jsonl", '{"step": -1, "loss": 1.0}\n', "metrics.jsonl, line 1: '-1' is no step"
        ),
        soak("events.jsonl", "", "events.jsonl tells of nothing"),
        ("events.jsonl", "{}\n", "events.jsonl, line 1: there is no kind of event None"),
        ("checkpoint.msgpack", "x", "checkpoint.msgpack"),
    ],
)
def test_a_hostile_record_is_one_line(
    file: str, text: str, says: str, lab: Lab, mine: RunDir
) -> None:
    (mine.path / file).write_text(text)
    done = replay(lab, mine, "--until", "2")
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert done.wait() == (0 if file == "checkpoint.msgpack" else 1)


@pytest.mark.soak
@pytest.mark.parametrize(
    "flags", [soak(("--strategy", "sync")), ("--strategy", "diloco", "--compress", "topk:0.1")]
)
def test_exact_strategies_are_computed_anew_without_recorded_rounds(
    flags: tuple[str, ...], lab: Lab
) -> None:
    lab.slow_down(0.002)
    every = ("--checkpoint-every", "3", "--workers", "2", *flags)
    train = lab.train(*SIZE, "--steps", "40", *every)
    run = lab.run_dir()
    run.reaches(4)
    train.send(signal.SIGTERM)
    assert train.wait() == 128 + signal.SIGTERM
    assert replay(lab, run).wait() == 0, "a run that was stopped"
    again = lab.train("--resume", "runs/it", "--steps", "12", "--workers", "1", run="")
    assert again.wait() == 0, again.err
    assert run.events(RoundOpened) == []
    done = replay(lab, run)
    assert done.wait() == 0, done.err
    assert f"strategy {flags[1]}: exact: same bits for any number of workers" in done.out
    assert f"state_sha256 {load(run.newest).state_sha256}" in done.out
    assert len(run.events(Started)) == 2


@pytest.mark.soak
def test_a_run_that_began_with_a_checkpoint_of_another_is_computed_from_there(
    lab: Lab, kept: Path
) -> None:
    saved = kept / "checkpoints/step-00000008.msgpack"
    flags = ("--resume", str(saved), "--steps", "14", "--strategy", MINE, "--checkpoint-every", "2")
    train = lab.train(*flags, "--workers", "2", "--engine", "scalar")
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    done = replay(lab, run)
    assert done.wait() == 0, done.err
    assert "replayed 6 steps after step 8: same bits as " in done.out
    assert f"state_sha256 {load(run.newest).state_sha256}" in done.out
    (run.path / "checkpoints/step-00000008.msgpack").unlink()
    done = replay(lab, run)
    assert done.wait() == 1
    assert done.err == (
        "error: the record begins after step 8, and there is no checkpoint of that step\n"
    )
