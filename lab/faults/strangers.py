"""A quiet run, then the same run under every attack at once, and what is to be said of both."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from rich.console import Console

from lab.faults.bench import ENDLESS, Row
from lab.faults.faulty_run import FIRST_STEP_SECONDS, STUCK_SECONDS
from lab.faults.fleet import FleetError
from lab.faults.report import Screen
from lab.faults.stage import FOLLOWER_VICTIM, UNITS, WORKER_VICTIM, Plan, Stage
from lab.faults.watch import Watch
from microgpt.checkpoint.format import CheckpointError, load
from microgpt.protocol.messages import MAX_MESSAGE_BYTES

LOOK_SECONDS = 0.02
WEIGH_SECONDS = 0.1
PACE_SECONDS = 4.0
KEPT = 0.6  # of the pace, as a guess at how long the run under attack will take
LEAST_STEPS = 50
LONG_SECONDS = 60.0  # in which every attack must have found something to do
CHECKPOINT_SECONDS = 2.0
MOST_GROWTH = 64 << 20  # bytes more than in the quiet run
SIBLINGS = {WORKER_VICTIM: "worker-1", FOLLOWER_VICTIM: "follower"}


@dataclass(frozen=True)
class Outcome:
    """How a run went. ``seconds`` are from its first step done to its last.

    ``memory``: the most that each process has had, in bytes. ``done``: how often each attack was
    made. ``ended``: who has ended that should not have; ``complaints``: what else is wrong.
    """

    state_sha256: str
    steps: int
    seconds: float
    memory: dict[str, int]
    done: dict[str, int]
    ended: tuple[str, ...]
    complaints: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds if self.seconds > 0 else 0.0


Over: TypeAlias = Callable[[Watch, float], bool]


def is_paced(watch: Watch, first: float) -> bool:
    """Whether enough has been seen since the ``first`` step to tell the pace."""
    return watch.last - first > PACE_SECONDS and watch.done > 1


def is_never_over(watch: Watch, first: float) -> bool:
    """The run goes to its end."""
    return False


def conduct(plan: Plan, show: Screen, over: Over = is_never_over) -> Outcome:
    """Train to the end, or until it is ``over``. Raises FleetError if it cannot begin."""
    stage = Stage(plan)
    watch = Watch(plan.run_dir)
    with contextlib.ExitStack() as stack:
        stack.callback(watch.close)
        stack.callback(stage.close)
        stage.open()
        first, broken_off, stuck = _attend(stage, watch, show, over)
        done = stage.done()
        if not broken_off:
            stage.finish()
    digest = ""
    with contextlib.suppress(CheckpointError):
        digest = load(plan.run_dir / "checkpoint.msgpack").state_sha256
    complaints = () if broken_off else (*stuck, *stage.complaints())
    return Outcome(
        digest, watch.step, watch.last - first, stage.memory, done, tuple(stage.wrong), complaints
    )


def _attend(stage: Stage, watch: Watch, show: Screen, over: Over) -> tuple[float, bool, list[str]]:
    """Until the coordinator ends. When the first step was done, if it was over, what is wrong."""
    first = weighed = 0.0
    watch.last = time.monotonic()
    while not stage.look_after():
        if watch.look():
            if not first:
                first = watch.last
                stage.begin()
            show.step(watch.step)
            if over(watch, first):
                return first, True, []
        silence = time.monotonic() - watch.last
        if silence > (STUCK_SECONDS if first else FIRST_STEP_SECONDS):
            return first, False, [f"no step for {silence:.0f} s after step {watch.step}"]
        if first:
            stage.change_weather()
            if time.monotonic() - weighed > WEIGH_SECONDS:
                weighed = time.monotonic()
                stage.weigh()
        time.sleep(LOOK_SECONDS)
    watch.look()
    show.step(watch.step)
    return first or watch.last, False, []


# --- the verdict ---------------------------------------------------------------------------------


def judge(calm: Outcome, attacked: Outcome, steps: int, least: float) -> Iterator[Row]:
    """A line for everything that was to be shown; ``least`` is the share of the pace to be kept."""
    for name, outcome in (("quiet run", calm), ("run under attack", attacked)):
        text = "; ".join(dict.fromkeys(outcome.ended)) or "none"
        yield Row(f"processes that ended, {name}", text, "none", not outcome.ended)
        text = "; ".join(dict.fromkeys(outcome.complaints)) or "none"
        yield Row(f"tracebacks and standstills, {name}", text, "none", not outcome.complaints)
    yield from _memory_rows(calm.memory, attacked.memory)
    share = attacked.rate / calm.rate if calm.rate else 0.0
    yield Row(
        "throughput under attack",
        f"{attacked.rate:.1f} steps/s of {calm.rate:.1f} ({100 * share:.0f} %)",
        f">= {100 * least:.0f} %",
        share >= least,
    )
    same = bool(calm.state_sha256) and calm.state_sha256 == attacked.state_sha256
    yield Row(
        "state_sha256 at the end",
        f"{'same' if same else 'OTHER'} after {attacked.steps:,} of {steps:,} steps",
        "same",
        same and attacked.steps == steps,
    )
    # Members who lie must be given work first, which may take longer than a short run does.
    long = attacked.seconds >= LONG_SECONDS
    for kind, count in attacked.done.items():
        wanted = "some" if long else "any"
        yield Row(f"attack {kind}", f"{count:,} {UNITS[kind]}", wanted, count > 0 or not long)


def _memory_rows(calm: dict[str, int], attacked: dict[str, int]) -> Iterator[Row]:
    """Of each process; victims of the hostile server are compared with their quiet siblings.

    A worker takes in one message of the largest size from whoever it takes for a coordinator.
    """
    for name, most in attacked.items():
        allowed = MOST_GROWTH
        if name == WORKER_VICTIM:
            allowed += MAX_MESSAGE_BYTES
        grown = most - calm.get(SIBLINGS.get(name, name), 0)
        yield Row(
            f"memory of {name} at its highest",
            f"{most / 2**20:.0f} MiB, {grown / 2**20:+.0f} MiB",
            f"<= {allowed >> 20:+d} MiB",
            grown <= allowed,
        )


# --- all of it -----------------------------------------------------------------------------------


def compare(
    console: Console, plan: Plan, minutes: float, kinds: tuple[str, ...], seed: int, least: float
) -> tuple[list[Row], str]:
    """The quiet run and the one under attack, of a length measured to fill the minutes.

    Returns the lines of the verdict, and the digest of the run under attack. Raises FleetError.
    """

    def run(name: str, title: str, steps: int, every: int, kinds: tuple[str, ...] = ()) -> Outcome:
        flags = ("--steps", str(steps), "--checkpoint-every", str(every))
        coordinator = (*plan.coordinator, *flags)
        one = replace(
            plan, run_dir=plan.run_dir / name, coordinator=coordinator, kinds=kinds, seed=seed
        )
        shown = 0 if steps == ENDLESS else steps
        with Screen(console, title, shown).showing() as screen:
            if name == "pace":
                return conduct(one, screen, is_paced)
            return conduct(one, screen)

    pace = run("pace", "pace", ENDLESS, ENDLESS).rate
    if not pace:
        raise FleetError("no step is done in peace")
    steps = max(LEAST_STEPS, int(minutes * 60 * pace * KEPT))
    every = max(1, int(pace * CHECKPOINT_SECONDS))
    calm = run("quiet", "quiet run", steps, every)
    attacked = run("attacked", "run under attack", steps, every, kinds)
    return [*judge(calm, attacked, steps, least)], attacked.state_sha256


__all__ = ["UNITS", "Outcome", "Plan", "compare", "conduct", "judge"]
