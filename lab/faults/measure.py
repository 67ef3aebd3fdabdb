"""The numbers that this project promises, measured with real processes."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator

from lab.faults.bench import (
    LOOK_SECONDS,
    ObservationError,
    Row,
    Running,
    Setting,
    freezer,
    spread,
)
from lab.faults.fleet import Plan
from lab.faults.hostile import Capture, throw
from lab.faults.in_flight import InFlight
from lab.faults.injector import thaw
from lab.faults.machine import memory

TINY = ("--n-embd", "4", "--n-head", "2", "--block-size", "4", "--batch-size", "4")


def handed_over(setting: Setting) -> Iterator[Row]:
    """Shards of a killed, a frozen and a cut-off worker go to another one."""
    plan = setting.plan("handed-over", 4, "--events", "full")
    in_flight = InFlight(plan.run_dir)
    times: dict[str, list[float | None]] = {"killed": [], "frozen": [], "cut off": []}
    with Running(plan) as run:
        fleet = run.fleet
        run.reach(20)
        run.until(lambda: in_flight.at_work(4))
        for turn in range(setting.times(20)):
            victim, proxy = fleet.workers[turn % 4], fleet.proxies[turn % 4]
            process = victim.alive
            if process is None:
                raise ObservationError(f"{victim.name} is not there")
            times["killed"].append(in_flight.strike(victim.name, process.kill, run.until))
            in_flight.harmed(victim.name)
            run.until(lambda: in_flight.at_work(4))
            process = victim.alive
            if process is None or turn % 3:
                continue
            freeze = freezer(process.pid)
            times["frozen"].append(in_flight.strike(victim.name, freeze, run.until))
            run.rest(3.0)
            in_flight.harmed(victim.name)
            thaw(process)
            run.until(lambda: in_flight.at_work(4))
            times["cut off"].append(in_flight.strike(victim.name, proxy.partition, run.until))
            run.rest(3.0)
            in_flight.harmed(victim.name)
            proxy.calm()
            run.until(lambda: in_flight.at_work(4))
    for how, goal in (("killed", 0.05), ("frozen", 2.0), ("cut off", 2.0)):
        what = f"shard of a {how} worker handed to another"
        seconds = [time for time in times[how] if time is not None]
        good = bool(seconds) and max(seconds) <= goal
        yield Row(what, spread(seconds), f"<= {1000 * goal:.0f} ms", good)


def restart(setting: Setting) -> Iterator[Row]:
    """The coordinator is killed, and starts again: how long until the next step is done."""
    seconds = []
    with Running(setting.plan("restart", 4, "--checkpoint-every", "50")) as run:
        run.reach(60)
        for _ in range(setting.times(10)):
            run.rest(1.0)
            process = run.fleet.coordinator.alive
            if process is None:
                continue
            process.kill()
            process.wait()
            run.fleet.look_after()
            seconds.append(run.first_step())
            run.all_work()
    good = max(seconds) <= 2.0
    yield Row("first step after the coordinator starts again", spread(seconds), "<= 2000 ms", good)


def kept(setting: Setting) -> Iterator[Row]:
    """Windows of 30 s by turns: with one fault, and without."""
    window, stay = 30.0, 5.0
    faulty = calm = 0
    with Running(setting.plan("kept", 8)) as run:
        fleet = run.fleet
        run.reach(100)
        run.all_work()
        run.rest(5.0)
        for turn in range(setting.times(9)):
            calm += run.rest(window)
            victim, proxy = fleet.workers[turn % 8], fleet.proxies[turn % 8]
            process = victim.alive
            if process is None:
                raise ObservationError(f"{victim.name} is not there")
            end = time.monotonic() + window
            before = run.watch.done
            if turn % 3 == 0:
                process.kill()
            elif turn % 3 == 1:
                freezer(process.pid)()
                run.rest(stay)
                thaw(process)
            else:
                proxy.partition()
                run.rest(stay)
                proxy.calm()
            run.rest(end - time.monotonic())
            faulty += run.watch.done - before
    share = 100 * faulty / calm
    value = f"{share:.1f} % ({calm} steps in peace, {faulty} with faults)"
    yield Row("throughput kept, 8 workers, a fault every 30 s", value, ">= 97.7 %", share >= 97.7)


def malformed(setting: Setting) -> Iterator[Row]:
    """A million malformed messages at a training coordinator."""
    count, steps = setting.times(1_000_000), setting.times(20_000)
    plan = setting.plan("peace", 2, *TINY, steps=steps)
    with Running(plan) as run:
        expected = run.end()
    capture = Capture()
    plan = setting.plan("malformed", 2, *TINY, steps=steps)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(Running(plan, capture.observer))
        run.reach(50)
        address = run.fleet.target
        captured = [*capture.upwards, *capture.downwards]
        throw(address, captured, count // 10, seed=1)  # what it takes to get warm
        process = run.fleet.coordinator.alive
        if process is None:
            raise ObservationError("the coordinator has crashed")
        before, began = memory(process.pid), time.monotonic()
        thrown: list[int] = []
        thread = threading.Thread(
            target=lambda: thrown.append(throw(address, captured, count, seed=2)), daemon=True
        )
        thread.start()
        held = False
        while thread.is_alive():
            run.watch.look()
            run.fleet.look_after()
            if run.watch.step > 0.9 * steps and not held:
                held = True  # the run must not end before the last message
                for worker in run.fleet.workers:
                    if worker.alive is not None:
                        freezer(worker.alive.pid)()
            time.sleep(LOOK_SECONDS)
        seconds, after = time.monotonic() - began, memory(process.pid)
        for worker in run.fleet.workers:
            if worker.alive is not None:
                thaw(worker.alive)
        crashed = process.poll() is not None
        final = run.end()
    good = final == expected and not crashed and len(run.fleet.coordinator.starts) == 1
    growth = (after - before) / 2**20
    yield Row(
        "malformed messages at a training coordinator",
        f"{thrown[0]:,} in {seconds:.0f} s, {'same' if final == expected else 'OTHER'} bits, "
        f"memory {growth:+.1f} MiB",
        "1,000,000, same bits, no growth",
        good and growth < 16,
    )


def steady(setting: Setting) -> Iterator[Row]:
    """Memory over 100,000 steps of a tiny model."""
    steps = setting.times(100_000)
    plan = setting.plan("steady", 2, *TINY, "--checkpoint-every", "1000", steps=steps)
    seen: dict[str, list[float]] = {}
    with Running(plan, direct=True) as run:
        for tenth in itertools.chain(range(1, 10), [9.9]):
            run.reach(int(steps * tenth / 10))
            for member in run.fleet.members:
                if member.alive is not None:
                    mib = memory(member.alive.pid) / 2**20
                    seen.setdefault(member.name, []).append(mib)
        run.end()
    for name, values in seen.items():
        text = f"{values[0]:.1f} MiB after a tenth, {values[-1]:.1f} at the end"
        grown = values[-1] - values[0]
        yield Row(f"memory of {name} over {steps:,} steps", text, "flat", grown < 4.0)


def curve(setting: Setting) -> Iterator[Row]:
    """Steps per second with and without encryption, by turns."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(setting.times(3)):
        for keys in (False, True):
            flags = ("--curve", str(setting.place / "keys")) if keys else ()
            plan = setting.plan(f"curve-{turn}-{keys}", 2, *flags)
            plan = Plan(plan.run_dir, plan.workers, plan.coordinator, (*plan.worker, *flags))
            with Running(plan, direct=True) as run:
                run.reach(100)
                run.all_work()
                run.rest(2.0)
                rates[keys].append(run.rest(15.0) / 15.0)
    plain, secret = (statistics.median(rates[keys]) for keys in (False, True))
    value = f"{secret:.0f} steps/s with, {plain:.0f} without ({100 * secret / plain:.1f} %)"
    yield Row("CURVE", value, "reported")


#: Seconds that each takes, about: for the time left.
EXPECTED = {
    "handed-over": 75.0, "restart": 60.0, "kept": 570.0, "malformed": 180.0, "steady": 200.0,
    "curve": 140.0,
}  # fmt: skip
STARTING_SECONDS = 10.0  # of them, however little is measured


def expected(name: str, scale: float) -> float:
    """Seconds that a measurement may take."""
    return STARTING_SECONDS + scale * max(0.0, EXPECTED[name] - STARTING_SECONDS)


MEASURES: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "handed-over": handed_over,
    "restart": restart,
    "kept": kept,
    "malformed": malformed,
    "steady": steady,
    "curve": curve,
}
