"""Train under thousands of seeded fault schedules in one process, and compare with the quiet run.

``python scripts/simulate.py --schedules 2000`` plays fresh ones; a seed that fails is printed, and
``python scripts/simulate.py --seed N --trace`` plays it again, line by line.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.progress import track

from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import Plan, make_plan
from lab.simulation.play import Result, play
from microgpt.engine import ENGINES
from microgpt.support import cli
from microgpt.support.cli import option
from microgpt.support.invocation import call_of

CODEC_SHARE = 0.02  # of the schedules whose messages are really packed
FILES_SHARE = 0.01  # of the schedules that write real files
WORST = 10  # failing seeds shown


@dataclass
class Tally:
    """What a number of schedules came to."""

    schedules: int = 0
    faults: int = 0
    events: int = 0
    messages: int = 0
    epochs: int = 0
    virtual_seconds: float = 0.0
    longest_aftermath: float = 0.0
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count a schedule."""
        self.schedules += 1
        self.faults += len(result.plan.faults)
        self.events += result.events
        self.messages += result.messages
        self.epochs += result.epochs
        self.virtual_seconds += result.virtual_seconds
        self.longest_aftermath = max(self.longest_aftermath, result.aftermath)
        if result.problem:
            self.failed.append(result)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option("--schedules", type=cli.Whole(1), default=2000, help="How many.")
@click.option(
    "--seed", type=cli.Whole(0), help="Of the first schedule.  [default: a new one each time]"
)
@click.option("--workers", type=cli.Whole(1), help="Places for workers.  [default: 1 to 5, drawn]")
@option(
    "--engine", type=click.Choice((STAND_IN, *ENGINES)), default=STAND_IN,
    help="What computes gradients; stand-in is a cheap function.",
)  # fmt: skip
@click.option("--trace", is_flag=True, help="Play one schedule and print what happens in it.")
def main(schedules: int, seed: int | None, workers: int | None, engine: str, trace: bool) -> int:
    """Play seeded fault schedules; each must end with the bits of the quiet run."""
    first = secrets.randbelow(1 << 40) if seed is None else seed
    if trace:
        return show(make_plan(first, workers, CODEC_SHARE), engine)
    print(f"schedules {first} to {first + schedules - 1}, {engine} gradients", flush=True)
    seeds: Iterable[int] = range(first, first + schedules)
    if sys.stdout.isatty():
        seeds = track(seeds, description="schedules")
    began = time.perf_counter()
    tally = run(seeds, workers, engine)
    seconds = time.perf_counter() - began
    print(
        f"{tally.schedules:,} schedules in {seconds:.1f} s ({tally.schedules / seconds:.0f}/s): "
        f"{tally.faults:,} faults, {tally.epochs:,} epochs of the coordinator, "
        f"{tally.messages:,} messages, {tally.virtual_seconds / 3600:.1f} hours of virtual time, "
        f"at most {tally.longest_aftermath:.1f} s of it from the last fault to the end"
    )
    if not tally.failed:
        print("every one ended with the bits of the quiet run")
        return 0
    more = "" if workers is None else f" --workers {workers}"
    for result in tally.failed[:WORST]:
        replay = f"{call_of('simulate')} --seed {result.plan.seed}{more} --engine {engine}"
        print(f"FAILED: {result.problem}\n  {replay} --trace")
    print(f"{len(tally.failed)} of {tally.schedules} schedules failed")
    return 1


def run(seeds: Iterable[int], workers: int | None, engine: str) -> Tally:
    """Play the schedules of these seeds."""
    tally = Tally()
    for seed in seeds:
        tally.add(play_one(make_plan(seed, workers, CODEC_SHARE), engine, trace=False))
    return tally


def play_one(plan: Plan, engine: str, trace: bool) -> Result:
    """Play a schedule; some of them, as their seed says, with real files."""
    if plan.seed % round(1 / FILES_SHARE):
        return play(plan, engine, trace=trace)
    with tempfile.TemporaryDirectory(prefix="microgpt-simulation-") as folder:
        return play(plan, engine, Path(folder), trace)


def show(plan: Plan, engine: str) -> int:
    """Play a schedule and print its trace."""
    result = play_one(plan, engine, trace=True)
    print(
        f"seed {plan.seed}: {plan.slots} places for workers, shard size "
        f"{plan.shard_size or 'auto'}, a checkpoint every {plan.checkpoint_every} steps, "
        f"{plan.verify_fraction:.0%} of the shards verified, {len(plan.faults)} faults"
    )
    print("\n".join(result.trace))
    print(f"FAILED: {result.problem}" if result.problem else "ended with the bits of the quiet run")
    return 1 if result.problem else 0
