"""What all schedules of a simulation have in common: strategy, replicas, sizes and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coordinator.core.level import Level
from lab.conditions import Conditions, OnFailure
from lab.launch.condition_options import read
from lab.simulation.plan import MANY, Plan, make_plan
from microgpt.distribution import Distribution
from microgpt.strategies.base import Promise, Strategy, StrategyError
from microgpt.strategies.parts import make_distribution
from microgpt.strategies.registry import DEFAULT, load_strategy, parse_options
from microgpt.support.cli import UserError

CODEC_SHARE = 0.02  # of the schedules whose messages are really packed
USUAL = (("strategy", DEFAULT), ("aggregate", "mean"), ("on_failure", OnFailure.REPLACE))
MOST_PLACES = 5  # for workers, where their number is drawn


@dataclass(frozen=True)
class Setting:
    """``workers``, ``steps``, ``batch_size``: None where each schedule draws its own.

    ``events``: how much is told, None: as suits the number of workers. ``flags``: those that make
    a simulation one of this setting again.
    """

    workers: int | None
    steps: int | None
    batch_size: int | None
    strategy: Strategy
    distribution: Distribution
    conditions: Conditions
    events: Level | None = None
    flags: tuple[str, ...] = ()
    aggregators: int = 0

    def plan(self, seed: int) -> Plan:
        """The schedule of a seed. Where workers lie for good there are no other faults: bits could
        not tell whether these are borne.
        """
        plan = make_plan(seed, self.workers, CODEC_SHARE, self.aggregators)
        steps = self.steps or plan.steps
        batch_size = max(self.batch_size or plan.batch_size, self.distribution.replicas)
        share = plan.steps * plan.batch_size / (steps * batch_size)  # a run takes as long as ever
        pace = plan.document_seconds * share
        plan = replace(plan, steps=steps, batch_size=batch_size, document_seconds=pace)
        plan = replace(plan, events=self.events or usual_level(plan.slots))
        if self.conditions.have_lies:
            plan = replace(plan, faults=(), heals_at=0.0, byzantine=None, verify_fraction=0.0)
        return plan

    @property
    def exact(self) -> bool:
        """Whether the strategy promises the bits of the quiet run."""
        return self.strategy.promise is Promise.EXACT

    @property
    def how(self) -> str:
        """How a schedule ends that keeps what it promises."""
        if self.conditions.have_lies:
            return "with the lies in it"
        return "with the bits of the quiet run" if self.exact else "after all of its steps"


def usual_level(places: int) -> Level:
    """How much is told, and so checked, with so many places for workers. With very many, each
    shard's events would be most of the work, and what they show is shown with few.
    """
    return Level.FULL if places <= MANY else Level.SUMMARY


def read_setting(workers: int | None, flags: Mapping[str, Any]) -> Setting:
    """The setting that the flags describe. Raises UserError."""
    conditions = read({**flags, "workers": workers or MOST_PLACES})
    try:
        strategy = load_strategy(flags["strategy"], parse_options(flags["strategy_option"]))
        distribution = make_distribution(
            flags["replicas"], flags["aggregate"], flags["compress"],
            shard_by=flags["shard_by"] or "",
        )  # fmt: skip
    except (StrategyError, ValueError) as error:
        raise UserError(str(error)) from error
    events = Level(flags["events"]) if flags.get("events") else None
    return Setting(
        workers, flags["steps"], flags["batch_size"], strategy, distribution, conditions, events,
        tuple(_again({"workers": workers, **flags})), flags["aggregators"],
    )  # fmt: skip


def _again(flags: Mapping[str, Any]) -> list[str]:
    """The flags as a command line has them, those of no effect left out; not ``--engine``."""
    words: list[str] = []
    for name, value in flags.items():
        for each in value if isinstance(value, tuple) else (value,):
            if each and name != "engine" and (name, each) not in USUAL:
                words += ["--" + name.replace("_", "-"), str(each)]
    return words
