"""What a real training leaves can be listed, compared with itself and put on a page."""

from __future__ import annotations

import json

from tests.lab.report.trace_reader import Trace
from tests.processes import Lab

STEPS = 6


def test_a_real_run_is_shown(lab: Lab) -> None:
    flags = ("--steps", str(STEPS), "--workers", "2", "--data", str(lab.data), "--engine", "scalar")
    more = ("--events", "full", "--checkpoint-every", "2", "--n-embd", "2", "--n-head", "2")
    assert lab.train(*flags, *more, "--block-size", "2", run="runs/it").wait() == 0
    listing = lab.script("runs", "runs", "--json")
    assert listing.wait() == 0
    (run,) = json.loads(listing.out)
    assert (run["ended"], run["step"], run["state_step"]) == ("finished", STEPS, STEPS)
    compared = lab.script("compare", "runs/it", "runs/latest")
    assert compared.wait() == 0
    assert "same bits in all 6 losses and 4 checkpoints that both have" in compared.out
    report = lab.script("report", "runs/it", "-o", "report.html", "--trace", "trace.json")
    assert report.wait() == 0
    assert run["state_sha256"] in (lab.place / "report.html").read_text()
    trace = Trace((lab.place / "trace.json").read_text())
    answered = [begin for begin, _ in trace.spans if begin["args"]["outcome"] == "answered"]
    assert len(answered) >= STEPS
    assert len(trace.counters["loss"]) == STEPS
