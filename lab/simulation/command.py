"""Train under thousands of seeded fault schedules in one process, and compare with the quiet run.

``python scripts/simulate.py --schedules 2000`` plays fresh ones; a seed that fails is printed, and
``python scripts/simulate.py --seed N --trace`` plays it again, line by line.
"""

from __future__ import annotations

import gc
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from coordinator.core.level import Level
from lab.launch.condition_options import condition_options
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import MANY, Plan
from lab.simulation.play import Result, play
from lab.simulation.setting import Setting, read_setting
from microgpt.distribution import MAX_REPLICAS, SHARD_BY
from microgpt.engine import ENGINES
from microgpt.strategies.registry import DEFAULT
from microgpt.support import cli
from microgpt.support.cli import option
from microgpt.support.invocation import call_of

FILES_SHARE = 0.01  # of the schedules that write real files
MOST_AGGREGATORS = 1000
WORST = 10  # failing seeds shown
SELDOM = 100_000  # objects made since Python has looked for garbage last


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
    ended: int = 0
    losses: float = 0.0  # of their last steps
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
        if result.final is not None:
            self.ended += 1
            self.losses += result.final.losses[-1]
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
@option("--steps", type=cli.Whole(1), default=None, show_default="drawn", help="Number of updates.")
@option(
    "--batch-size", type=cli.Whole(1), default=None, show_default="drawn",
    help="Documents per update.",
)  # fmt: skip
@option("--strategy", default=DEFAULT, help="How results become updates: a name, or FILE.py:Class.")
@option(
    "--strategy-option", multiple=True, metavar="KEY=VALUE", show_default=False,
    help="A field of the strategy. May be given several times.",
)  # fmt: skip
@option("--replicas", type=cli.Whole(0, MAX_REPLICAS), default=0, help="Virtual replicas.")
@option("--aggregate", default="mean", help="How replicas' vectors become one.")
@option("--compress", default="", show_default="no compression", help="How vectors shrink.")
@option(
    "--shard-by", type=click.Choice(SHARD_BY[1:]), default=None, show_default="all alike",
    help="Give each replica documents of its own.",
)  # fmt: skip
@option(
    "--events", type=click.Choice([level.value for level in Level]), default=None,
    show_default=f"full; summary with more than {MANY} workers",
    help="How much the coordinator tells, and is checked: all of it, or less in less time.",
)  # fmt: skip
@option(
    "--aggregators", type=cli.Whole(0, MOST_AGGREGATORS), default=0,
    help="Between the workers and the coordinator; faults meet them, too.",
)  # fmt: skip
@condition_options
@click.option("--trace", is_flag=True, help="Play one schedule and print what happens in it.")
def main(schedules: int, seed: int | None, workers: int | None, trace: bool, **flags: Any) -> int:
    """Play seeded fault schedules; each must end with the bits of the quiet run.

    Schedules with liars (--byzantine) have no other faults, and end with bits of their own.
    """
    setting = read_setting(workers, flags)
    engine: str = flags["engine"]
    first = secrets.randbelow(1 << 40) if seed is None else seed
    if trace:
        return show(setting.plan(first), engine, setting)
    print(f"schedules {first} to {first + schedules - 1}, {engine} gradients", flush=True)
    seeds: Iterable[int] = range(first, first + schedules)
    if sys.stdout.isatty():
        seeds = track(seeds, description="schedules")
    began = time.perf_counter()
    tally = run(seeds, engine, setting)
    seconds = time.perf_counter() - began
    print(
        f"{tally.schedules:,} schedules in {seconds:.1f} s ({tally.schedules / seconds:.0f}/s): "
        f"{tally.faults:,} faults, {tally.epochs:,} epochs of the coordinator, "
        f"{tally.messages:,} messages, {tally.virtual_seconds / 3600:.1f} hours of virtual time, "
        f"at most {tally.longest_aftermath:.1f} s of it from the last fault to the end"
    )
    if setting.conditions.have_lies or not setting.exact:
        print(f"loss of the last step: {tally.losses / max(1, tally.ended):.4f} on average")
    if not tally.failed:
        print(f"every one ended {setting.how}")
        return 0
    more = "".join(f" {word}" for word in setting.flags)
    for result in tally.failed[:WORST]:
        replay = f"{call_of('simulate')} --seed {result.plan.seed}{more} --engine {engine}"
        print(f"FAILED: {result.problem}\n  {replay} --trace")
    print(f"{len(tally.failed)} of {tally.schedules} schedules failed")
    return 1


def run(seeds: Iterable[int], engine: str, setting: Setting) -> Tally:
    """Play the schedules of these seeds."""
    tally = Tally()
    with garbage_left():
        for seed in seeds:
            tally.add(play_one(setting.plan(seed), engine, setting, trace=False))
    return tally


@contextmanager
def garbage_left() -> Iterator[None]:
    """Look for circles of garbage seldom: messages under way are many, and none of them is one."""
    before = gc.get_threshold()
    gc.set_threshold(SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def play_one(plan: Plan, engine: str, setting: Setting, trace: bool) -> Result:
    """Play a schedule; some of them, as their seed says, with real files."""
    more = setting.strategy, setting.distribution, setting.conditions
    if plan.seed % round(1 / FILES_SHARE):
        return play(plan, engine, None, trace, *more)
    with tempfile.TemporaryDirectory(prefix="microgpt-simulation-") as folder:
        return play(plan, engine, Path(folder), trace, *more)


def show(plan: Plan, engine: str, setting: Setting) -> int:
    """Play a schedule and print its trace."""
    result = play_one(plan, engine, setting, trace=True)
    print(
        f"seed {plan.seed}: {plan.slots} places for workers, shard size "
        f"{plan.shard_size or 'auto'}, a checkpoint every {plan.checkpoint_every} steps, "
        f"{plan.verify_fraction:.0%} of the shards verified, {len(plan.faults)} faults"
    )
    print("\n".join(result.trace))
    print(f"FAILED: {result.problem}" if result.problem else f"ended {setting.how}")
    return 1 if result.problem else 0
