"""``microgpt tape show`` prints what is recorded, and what becomes of it."""

from __future__ import annotations

import re

from click.testing import CliRunner

from lab.tape import main
from microgpt.engine.fuse import PASSES, fuse
from microgpt.engine.tracer import record
from microgpt.model import GPTConfig

SHAPE = ["--vocab-size", "5", "--n-embd", "4", "--n-head", "2", "--length", "3"]


def show(*options: str) -> list[str]:
    result = CliRunner().invoke(main, ["show", *SHAPE, *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_statistics_of_every_pass_then_instructions_then_what_it_took() -> None:
    lines = show("--statistics")
    tape = record(GPTConfig(5, 1, 4, 2, 3))
    assert lines[0] == f"recorded: {tape.statistics()}"
    assert [line.split(":")[0] for line in lines[1:9]] == [each.__name__ for each in PASSES]
    assert lines[8] == f"useful: {fuse(tape).statistics()}"
    assert [line.split(":")[0] for line in lines[9:-1]] == [f"position {i}" for i in range(3)]
    assert re.fullmatch(
        r"processor time: recording [\d.]+ s, fusing [\d.]+ s, lowering [\d.]+ s; "
        r"memory at most \d+ MB",
        lines[-1],
    )


def test_the_program_is_shown_node_by_node() -> None:
    lines = show()
    program = list(fuse(record(GPTConfig(5, 1, 4, 2, 3))).lines())
    assert lines[9 : 9 + len(program)] == program
    assert len(lines) == 9 + len(program) + 3 + 1
