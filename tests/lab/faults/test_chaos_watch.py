"""Following a record that a coordinator which comes back has cut."""

from __future__ import annotations

import json
from pathlib import Path

from lab.faults.watch import Watch


def lines(*steps: int) -> bytes:
    return b"".join(json.dumps({"step": n, "loss": n / 7}).encode() + b"\n" for n in steps)


def test_a_record_that_is_cut_and_grows_again_is_read_anew(tmp_path: Path) -> None:
    record, watch = tmp_path / "metrics.jsonl", Watch(tmp_path)
    assert watch.look() == 0
    record.write_bytes(lines(*range(1, 8)) + b'{"step"')
    assert (watch.look(), watch.step, watch.done) == (7, 7, 7)
    with open(record, "r+b") as file:
        file.truncate(len(lines(1, 2, 3)))
    assert (watch.look(), watch.step, watch.done) == (0, 3, 7)
    with open(record, "ab") as file:
        file.write(lines(4, 5))
    assert (watch.look(), watch.step, watch.done) == (2, 5, 9)
    # Cut, and already longer than before: what comes next is within a line.
    with open(record, "r+b") as file:
        file.truncate(len(lines(1)))
        file.seek(0, 2)
        file.write(lines(*range(1002, 1012)))
    watch.look()
    assert (watch.look(), watch.step) == (0, 1011)
    watch.close()
