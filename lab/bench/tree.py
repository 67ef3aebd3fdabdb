"""``bench.py tree``: a run as a star and as a tree of aggregators; same bits, fewer bytes."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lab.bench.programs import running
from lab.bench.progress import Steps
from lab.bench.scale.running import written
from microgpt.checkpoint.format import load
from microgpt.support import cli
from microgpt.support.cli import UserError
from microgpt.support.isolation import isolated


@dataclass(frozen=True)
class Shape:
    """``workers`` below ``aggregators``; without any, a star."""

    workers: int
    aggregators: int

    def __str__(self) -> str:
        return f"tree of {self.aggregators}" if self.aggregators else "star"

    @property
    def members(self) -> int:
        """How many are connected to the coordinator."""
        return self.aggregators or self.workers


@dataclass(frozen=True)
class Found:
    """One run. Bytes and seconds are medians over the steps with all members.

    ``sent`` and ``received``: bytes of the coordinator's in a step.
    """

    shape: Shape
    seconds: float
    sent: int
    received: int
    steps: int
    state_sha256: str


def conduct(shape: Shape, steps: int, flags: tuple[str, ...]) -> Found:
    """Train with processes of this shape. Raises ClickException."""
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir = Path(folder, "run")
        command = isolated("lab.command_line", "train", *flags, "--quiet", "--steps", str(steps))
        command += ["--run-dir", str(run_dir), "--workers", str(shape.workers)]
        if shape.aggregators:
            command += ["--aggregators", str(shape.aggregators)]
        with running(Path(folder), command) as programs:
            programs.check(programs.processes[0].wait())
        records = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
        saved = load(run_dir / "checkpoint.msgpack")
    full = [record for record in records if record["workers"] == shape.members]
    if not full:
        raise click.ClickException(f"no step of the {shape} had all members: take more --steps")
    seconds, sent, received = (
        statistics.median(record[name] for record in full)
        for name in ("seconds", "bytes_sent", "bytes_received")
    )
    counts = round(sent), round(received), len(full)
    return Found(shape, seconds, *counts, saved.state_sha256)


@click.command(context_settings={"show_default": True})
@click.option("--workers", type=cli.Whole(1, 256), default=8, help="Of the star and of the tree.")
@click.option("--aggregators", type=cli.Whole(1, 64), default=2, help="Of the tree.")
@click.option("--steps", type=cli.Whole(2), default=300, help="Of each run.")
@click.option("--batch-size", type=cli.Whole(1), default=32, help="Documents per step.")
@click.option("--data", default="embedded", help="Documents, as for training.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def tree(
    workers: int, aggregators: int, steps: int, batch_size: int, data: str, json_file: Path | None
) -> int:
    """Compare a star of workers with a tree of as many: bits, bytes at the coordinator, speed.

    On one machine the tree has more processes for the same processors, so that it is slower here.
    """
    if aggregators > workers:
        raise UserError(f"--aggregators {aggregators} are too many for {workers} workers")
    flags = ("--data", data, "--batch-size", str(batch_size))
    shapes = [Shape(workers, 0), Shape(workers, aggregators)]
    progress, found = Steps("runs", len(shapes)), list[Found]()
    for shape in shapes:
        with progress.next(str(shape)):
            found.append(conduct(shape, steps, flags))
    Console().print(table_of(found))
    if json_file is not None:
        with written(json_file):
            plain = {"runs": [asdict(each) for each in found]}
            json_file.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    star, of_tree = found
    if star.state_sha256 != of_tree.state_sha256:
        return cli.complain("the tree ends with other bits than the star", 1)
    both = [each.sent + each.received for each in found]
    click.echo(f"the same bits; the coordinator has {both[0] / both[1]:.1f} times fewer bytes")
    return 0


def table_of(found: list[Found]) -> Table:
    """A row for each run."""
    table = Table("shape", "connections", "steps/s", "bytes sent", "received", "state_sha256")
    for each in found:
        table.add_row(
            f"{each.shape}, {each.shape.workers} workers", str(each.shape.members),
            f"{1.0 / each.seconds:,.0f}", f"{each.sent:,}", f"{each.received:,}",
            each.state_sha256[:16],
        )  # fmt: skip
    return table
