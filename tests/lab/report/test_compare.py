"""``microgpt compare``: what is equal, what is not, and since when."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lab.report.compare import main
from lab.report.digests import Digests, Parting, parting
from lab.report.reading import read_run
from microgpt.checkpoint.format import Checkpoint
from tests.conftest import Reference
from tests.lab.report.directories import RUN, add_checkpoints, make_run


def compared(*paths: Path | str) -> dict[str, Any]:
    arguments = [*map(str, paths), "--json"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return dict(json.loads(result.output))


def states(reference: Reference, *steps: int, marks: bytes = b"") -> list[Checkpoint]:
    """Checkpoints of steps; those of the steps in ``marks`` have other weights."""
    found = []
    for step in steps:
        checkpoint = replace(reference(4, 2), run=RUN, step=step, losses=())
        if step in marks:
            checkpoint = replace(checkpoint, weights=bytes(8) + checkpoint.weights[8:])
        found.append(checkpoint)
    return found


def part(a: Path, b: Path) -> Parting:
    one, other = read_run(a), read_run(b)
    return parting(one.steps, other.steps, Digests(one), Digests(other))


def test_equal_runs_are_equal(tmp_path: Path, reference: Reference) -> None:
    paths = [make_run(tmp_path / name) for name in "ab"]
    for path in paths:
        add_checkpoints(path, states(reference, 0, 2, 4))
    found = part(*paths)
    assert found == Parting(4, None, 3, 4, None)
    assert found.text() == "same bits in all 4 losses and 3 checkpoints that both have"


@pytest.mark.parametrize("first", range(1, 6))
def test_the_first_other_state_is_found(tmp_path: Path, reference: Reference, first: int) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    add_checkpoints(a, states(reference, *range(6)))
    add_checkpoints(b, states(reference, *range(6), marks=bytes(range(first, 6))))
    assert part(a, b) == Parting(4, None, 6, first - 1, first)


def test_a_loss_that_differs_in_its_last_bit_is_noticed(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", losses=[3.0, 0.3, 2.0])
    b = make_run(tmp_path / "b", losses=[3.0, 0.1 + 0.2, 2.0])
    found = part(a, b)
    assert found == Parting(3, 2, 0, None, None)
    assert found.text() == "losses differ from step 2"


def test_damaged_checkpoints_are_not_compared(tmp_path: Path, reference: Reference) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    add_checkpoints(a, states(reference, 0, 2, 4))
    add_checkpoints(b, states(reference, 0, 2, 4, marks=b"\2"))
    (b / "checkpoints" / "step-00000002.msgpack").write_bytes(b"damaged")
    assert part(a, b) == Parting(4, None, 3, 4, None)


def test_losses_are_shown_at_equal_steps(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", validations={2: 2.75, 4: 1.75})
    b = make_run(tmp_path / "b", losses=[3.0, 2.0, 1.0], validations={2: 2.25})
    found = compared(a, b)
    assert [row["step"] for row in found["losses"]] == [1, 2, 3]
    assert found["losses"][1] == {
        "step": 2, "loss": [2.5, 2.0], "validation_loss": [2.75, 2.25],
    }  # fmt: skip
    (pair,) = found["partings"]
    assert (pair["loss_step"], pair["runs"]) == (2, [str(a), str(b)])


def test_what_a_run_has_taken_to_a_loss(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", validations={2: 2.15, 4: 2.1})
    b = make_run(tmp_path / "b", validations={2: 2.3, 3: 2.2, 4: 2.25})
    plain = [make_run(tmp_path / name, validations={4: 2.9}) for name in ("c", "d")]
    # A step takes half a second, sends 1,000 bytes and receives 500.
    assert compared(a, b)["reached"] == [
        {"kind": "validation", "loss": 2.2, "by": [
            {"step": 2, "seconds": 1.0, "bytes": 3000}, {"step": 3, "seconds": 1.5, "bytes": 4500},
        ]},
        {"kind": "validation", "loss": 2.1, "by": [
            {"step": 4, "seconds": 2.0, "bytes": 6000}, None,
        ]},
    ]  # fmt: skip
    lines = CliRunner().invoke(main, [str(a), str(b)]).output.splitlines()
    assert [line.split("  ")[1:] for line in lines if " to validation" in line] == [
        ["to validation loss 2.2", "1.00 s, 0.0 MB, step 2", "1.50 s, 0.0 MB, step 3"],
        ["to validation loss 2.1", "2.00 s, 0.0 MB, step 4", *[""] * 10, " -"],
    ]
    assert compared(*plain)["reached"] == []
    (found,) = compared(*plain, "--loss", "2.9")["reached"]
    assert (found["kind"], found["loss"]) == ("validation", 2.9)


def test_a_training_loss_is_the_mean_of_a_hundred_steps(tmp_path: Path) -> None:
    falling = [*[3.0] * 100, *[1.5] * 60]
    means = [statistics.fmean(falling[at - 100 : at]) for at in range(100, 161)]
    first = next(at for at, mean in enumerate(means, 100) if mean <= 2.2)
    soon = [2.0] * 99  # not yet a hundred of them
    paths = [make_run(tmp_path / n, losses=x) for n, x in (("a", falling), ("b", soon))]
    (found, *_) = compared(*paths)["reached"]
    assert (found["kind"], found["loss"]) == ("training", 2.2)
    assert found["by"] == [{"step": first, "seconds": first * 0.5, "bytes": first * 1500}, None]


def test_many_steps_are_thinned_with_both_ends(tmp_path: Path) -> None:
    losses = [1.0 + 1 / step for step in range(1, 101)]
    paths = [make_run(tmp_path / name, losses=losses) for name in "ab"]
    steps = [row["step"] for row in compared(*paths)["losses"]]
    assert steps == [1, 15, 29, 43, 58, 72, 86, 100]


def test_settings_that_differ_are_marked(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    assert compared(*paths)["differing"] == ["seed"]
    lines = CliRunner().invoke(main, [*map(str, paths)]).output.splitlines()
    assert [line.split() for line in lines if line.startswith("*")] == [["*", "seed", "1", "2"]]
    assert ["bytes", "sent/step", "1,000", "1,000"] in [line.split() for line in lines]


def test_a_learning_rate_that_was_changed_is_a_setting_that_differs(
    tmp_path: Path, reference: Reference
) -> None:
    paths = [make_run(tmp_path / name) for name in ("a", "b")]
    checkpoint = replace(reference(4, 2), run=RUN)
    add_checkpoints(paths[0], [checkpoint])
    add_checkpoints(paths[1], [replace(checkpoint, learning_rate=0.05)])
    found = compared(*paths)
    assert found["differing"] == ["learning_rate changed to"]
    assert [run["settings"].get("learning_rate changed to") for run in found["runs"]] == [
        None,
        0.05,
    ]
    lines = CliRunner().invoke(main, [*map(str, paths)]).output.splitlines()
    assert any(
        line.split() == ["*", "learning_rate", "changed", "to", "-", "0.05"] for line in lines
    )


def test_what_is_no_run_and_one_alone_are_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    for arguments, text in (
        ([path], "two runs at least are compared: name their folders"),
        ([path, tmp_path], f"there is no {tmp_path}/config.json: this is no run, or not yet"),
    ):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert str(result.exception) == text
