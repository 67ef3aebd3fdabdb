"""The schedule of faults, and ``scripts/chaos.py`` itself on a small run."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from lab.faults.faulty_run import Outcome, Survived
from lab.faults.report import verdict
from lab.faults.schedule import KIND_OF, LONGEST, possible, schedule
from lab.faults.watch import Watch
from microgpt.checkpoint.format import load
from tests.processes import TINY_VARIABLES, Lab

pytestmark = pytest.mark.timeout(300)
ALL = {"worker": 4, "coordinator": 1, "proxy": 3, "link": 1, "disk": 1}


def test_a_seed_gives_the_same_faults_again() -> None:
    first = list(itertools.islice(schedule(1, 2.0, ALL), 500))
    assert first == list(itertools.islice(schedule(1, 2.0, ALL), 500))
    assert first != list(itertools.islice(schedule(2, 2.0, ALL), 500))


def test_every_kind_comes_and_stays_within_bounds() -> None:
    faults = list(itertools.islice(schedule(1, 2.0, ALL), 1000))
    assert {fault.kind for fault in faults} == set(KIND_OF)
    assert 1.5 < faults[-1].at / len(faults) < 2.5
    for fault in faults:
        assert 0 <= fault.victim < ALL[KIND_OF[fault.kind].target]
        lasts = KIND_OF[fault.kind].lasts
        assert (0.0 < fault.seconds <= LONGEST) if lasts else fault.seconds == 0.0


def test_what_the_machine_does_not_allow_is_left_out() -> None:
    poor = {"worker": 2, "coordinator": 1, "proxy": 2, "link": 0, "disk": 0}
    assert {kind.target for kind in possible(poor)} == {"worker", "coordinator", "proxy"}
    with pytest.raises(ValueError, match="nothing to harm"):
        next(schedule(1, 2.0, {}))


def outcome(sha: str, *complaints: str) -> Outcome:
    return Outcome(sha, 10, 0, 1.0, (Survived("cut", (0.1,)),), Counter(), {}, complaints)


@pytest.mark.parametrize(
    ("calm", "faulty", "wrong"),
    [
        (outcome("a"), outcome("a"), []),
        (outcome("a"), outcome("b"), ["ends with state_sha256 b, the quiet one with a"]),
        (outcome(""), outcome(""), ["(none)"]),
        (outcome("a"), outcome("a", "a gap"), ["faulty run: a gap"]),
        (outcome("a", "a gap"), outcome("a"), ["quiet run: a gap"]),
    ],
)
def test_the_verdict(calm: Outcome, faulty: Outcome, wrong: list[str]) -> None:
    found = verdict(calm, faulty)
    assert len(found) == len(wrong)
    assert all(text in line for text, line in zip(wrong, found, strict=True))


def test_steps_are_followed_through_a_restart(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    watch = Watch(tmp_path)
    assert watch.look() == 0
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert watch.look() == 2
    with open(metrics, "a") as file:
        file.write('p": 3}\n')
    assert (watch.look(), watch.step) == (1, 3)
    (tmp_path / "new").write_text('{"step": 1}\n')  # a coordinator goes on from step 1
    (tmp_path / "new").replace(metrics)
    assert (watch.look(), watch.step, watch.done) == (0, 1, 3)
    with open(metrics, "a") as file:
        file.write('{"step": 2}\n')
    assert (watch.look(), watch.step, watch.done) == (1, 2, 4)
    watch.close()


def test_a_faulty_run_ends_with_the_bits_of_a_quiet_one(lab: Lab) -> None:
    size = {"MICROGPT_BATCH_SIZE": "4", "MICROGPT_ENGINE": "scalar"}
    lab.slow_down(0.02)
    flags = ("--workers", "2", "--steps", "25", "--every", "0.5", "--seed", "7", "--keep", "kept")
    chaos = lab.script("chaos", *flags, "--data", str(lab.data), **TINY_VARIABLES, **size)
    assert chaos.wait(100) == 0, chaos.out + chaos.err
    assert "the same bits: state_sha256 " in chaos.out
    runs = [load(lab.place / "kept" / name / "checkpoint.msgpack") for name in ("quiet", "faulty")]
    assert runs[0].state_sha256 == runs[1].state_sha256
    assert chaos.out.rstrip().endswith(runs[0].state_sha256)
    assert "faults in" in chaos.out
    assert "worker killed" in chaos.out
