"""What the page shows of checkpoints: the newest digest, and samples of few of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.page import sampler
from lab.page.sampler import Look, Sampler, earlier, invent
from microgpt.checkpoint.format import Checkpoint, save
from microgpt.checkpoint.newest import CHECKPOINTS, NEWEST, step_path
from tests.tiny import make_tiny


def put(run: Path, step: int, *, newest: bool = True) -> Checkpoint:
    (run / CHECKPOINTS).mkdir(exist_ok=True)
    checkpoint = replace(make_tiny(), step=step, training=replace(make_tiny().training, steps=1000))
    save(step_path(run, step), checkpoint)
    if newest:
        save(run / NEWEST, checkpoint)
    return checkpoint


def test_a_run_that_goes_on_is_sampled_when_it_has_come_half_as_far_again(tmp_path: Path) -> None:
    look = Sampler(tmp_path)
    assert look.look("tiny", over=False) == Look()
    first = put(tmp_path, 10)
    assert look.look("tiny", over=False) == Look((10, first.state_sha256), (10, invent(first)))
    assert look.look("tiny", over=False) == Look()
    second = put(tmp_path, 14)
    assert look.look("tiny", over=False) == Look((14, second.state_sha256))
    third = put(tmp_path, 15)
    assert look.look("tiny", over=False) == Look((15, third.state_sha256), (15, invent(third)))
    fourth = put(tmp_path, 16)
    assert look.look("tiny", over=True) == Look((16, fourth.state_sha256), (16, invent(fourth)))
    assert look.look("tiny", over=True) == Look()


def test_of_a_run_that_is_looked_at_late_there_are_some_of_all_its_length(tmp_path: Path) -> None:
    for step in range(100, 1001, 100):
        put(tmp_path, step)
    look = Sampler(tmp_path)
    looks = [look.look("tiny", over=True) for _ in range(7)]
    assert [found.sample[0] for found in looks if found.sample] == [100, 200, 900, 1000]


def test_a_few_of_many_steps_are_early_ones() -> None:
    assert earlier([*range(100, 6401, 100)]) == [100, 400, 1600, 6400]
    assert earlier([7]) == [7]
    assert earlier([]) == []


def test_checkpoints_of_others_and_broken_ones_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, 10)
    step_path(tmp_path, 4).write_bytes(b"garbage")
    look = Sampler(tmp_path)
    assert look.look("another", over=True) == Look()
    (tmp_path / NEWEST).write_bytes(b"half")
    assert Sampler(tmp_path).look("tiny", over=True) == Look()


def test_a_large_model_is_not_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MOST_PARAMETERS", 10)
    put(tmp_path, 10)
    found = Sampler(tmp_path).look("tiny", over=True)
    assert found.sample is None
    assert found.remark.endswith("parameters: sample it with microgpt sample")
