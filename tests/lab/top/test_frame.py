"""What is drawn of a run, on terminals of all sizes."""

from __future__ import annotations

from typing import Any

import pytest

from lab.top.frame import Drawing, frame
from lab.top.view import View

NOW = 1_800_000_000.0


def worker(number: int, **more: Any) -> dict[str, Any]:
    return {
        "epoch": 1, "worker": number, "name": f"worker-{number}", "engine": "tape", "host": None,
        "state": "computing", "documents_per_second": 9120.4, "documents": 12345, "in_flight": 1,
        "silent_for": 0.1, "round_trip": 0.0021, "bytes_sent": 2_500_000, "bytes_received": 999,
        "computing": 0.714, "wire": 0.12, "waiting": 0.166, **more,
    }  # fmt: skip


GONE = dict.fromkeys(
    ("documents_per_second", "in_flight", "round_trip", "bytes_sent", "bytes_received",
     "computing", "wire", "waiting")
)  # fmt: skip


def spans(number: int) -> list[Any]:
    half = [1, number, NOW - 1.0, NOW - 0.875, NOW - 0.75, "answered", "work", 0, 0, 32, 0]
    whole = [1, number, NOW - 0.5, NOW - 0.5, NOW - 0.25, "answered", "evaluation", 1, 0, 32, 1]
    return [half, whole]


def snapshot(**more: Any) -> dict[str, Any]:
    return {
        "run": {"name": "mine", "strategy": "sync", "promise": "exact"},
        "state": {
            "phase": "running", "reason": "", "step": 312, "steps": 1000, "seconds_left": 61.0,
            "documents_per_second": 18_200.0, "bytes_sent_per_step": 35_100.0,
            "bytes_received_per_step": 34_000.0, "time": NOW,
        },
        "steps": {"loss": [2.5, 2.25]},
        "validations": [[300, 2.125, NOW]],
        "workers": [worker(1), worker(2, state="lost", host="10.0.0.7", **GONE)],
        "spans": spans(1),
        "marks": [{"time": NOW, "text": "worker-2 is gone", "warning": True}],
        "rounds_recorded": True,
        "problem": "",
        **more,
    }  # fmt: skip


def view(**more: Any) -> View:
    made = View()
    made.take("snapshot", snapshot(**more))
    return made


def test_a_frame_of_a_usual_terminal() -> None:
    title, bar, numbers, *rest = frame(view(), NOW, Drawing(100, 24))
    assert title == "mine  running  sync, exact"
    assert bar.startswith("step 312 / 1,000 ━━━")
    assert bar.endswith(" ETA 0:01:01")
    assert numbers == (
        "loss 2.2500, mean 2.3750, validation 2.1250 at step 300, 18,200 documents/s, "
        "35.1 kB out and 34.0 k…"
    )
    assert rest[:-1] == [
        "",
        "worker    state      documents/s  computing   wire  waiting  in flight  last 7 s",
        "worker-1  computing        9,120        71%    12%      17%          1"
        + " " * 25 + "▄ █",
        "worker-2  lost                 -          -      -        -          -",
        "",
    ]  # fmt: skip
    assert rest[-1].endswith(" worker-2 is gone")


@pytest.mark.parametrize("columns", [20, 33, 48, 60, 80, 100, 137, 250])
@pytest.mark.parametrize("rows", [4, 8, 24])
def test_no_frame_is_larger_than_its_terminal(columns: int, rows: int) -> None:
    many = [worker(number, name=f"a-rather-long-name-{number}") for number in range(40)]
    drawn = frame(view(workers=many), NOW, Drawing(columns, rows))
    assert len(drawn) <= rows
    assert max(map(len, drawn)) <= columns
    if rows == 24:
        assert drawn[5].split()[1] == "computing"
        assert any(line.startswith("and ") for line in drawn)


def test_a_wide_terminal_has_all_columns() -> None:
    heading, first = frame(view(), NOW, Drawing(200, 24))[4:6]
    assert " ".join(heading.split("  last ")[0].split()) == (
        "worker state documents/s computing wire waiting in flight documents round trip sent "
        "received engine host"
    )
    assert "12,345      2.1 ms    2.5 MB     999 B    tape             -" in first


def test_what_a_run_did_not_record_is_not_drawn() -> None:
    drawn = frame(view(rounds_recorded=False, marks=[]), NOW, Drawing(80, 24))
    assert not any("last" in line or "█" in line for line in drawn)
    assert len(drawn) == 7


def test_terminals_without_blocks_get_other_letters() -> None:
    drawn = frame(view(), NOW, Drawing(100, 24, blocks=False))
    assert drawn[5].endswith(" = #")


def test_of_a_run_that_is_over_the_last_seconds_are_shown() -> None:
    ended = {**snapshot()["state"], "phase": "failed", "reason": "no numbers", "seconds_left": None}
    drawn = frame(view(state=ended), NOW + 1e6, Drawing(100, 24))
    assert drawn[0] == "mine  failed: no numbers  sync, exact"
    assert drawn[5].endswith("▄ █")


def test_names_of_strangers_cannot_command_the_terminal() -> None:
    """Nor change how the rest looks."""
    evil = worker(3, name="\x1b[2J[red]x", engine="\x07", host="[bold]")
    marks = [{"time": NOW, "text": "\x1b]0;title\x07[blink]", "warning": False}]
    drawn = frame(view(workers=[evil], marks=marks), NOW, Drawing(200, 24, "standard"))
    text = "\n".join(drawn)
    assert "?[2J[red]x" in text
    assert "?]0;title?[blink]" in text
    assert "\x07" not in text
    assert "\x1b[2J" not in text


def test_messages_after_the_snapshot_change_the_view() -> None:
    seen = view()
    seen.take("steps", {"loss": [1.5]})
    seen.take("validations", [[310, 1.75, None]])
    seen.take("workers", [worker(7)])
    seen.take("marks", [{"time": NOW, "text": "later", "warning": False}])
    seen.take("spans", spans(7))
    seen.take("state", {**snapshot()["state"], "step": 313})
    drawn = frame(seen, NOW, Drawing(100, 24))
    assert drawn[1].startswith("step 313 / 1,000")
    assert drawn[2].startswith("loss 1.5000, mean 2.0833, validation 1.7500 at step 310")
    assert drawn[5].startswith("worker-7  computing")
    assert drawn[5].endswith("▄ █")
    assert drawn[-1].endswith("later")


def test_nothing_is_known_yet() -> None:
    seen = View()
    assert frame(seen, NOW, Drawing(80, 24))[0] == "no run yet  unknown"
    assert frame(seen, NOW, Drawing(80, 24))[2] == "no step is done yet"
