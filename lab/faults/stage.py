"""A run that strangers are let loose on: its processes, each of which must stay the same one.

A coordinator, honest workers, the last of them behind a link that can stall, and somebody who
follows the checkpoints. Nobody who ends is started again, but the victims of the hostile server:
they may end, with a line that says why.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.faults import attack
from lab.faults.attackers import Target
from lab.faults.fleet import FleetError, Member, free_port
from lab.faults.machine import memory
from lab.faults.proxy import Proxy
from microgpt.support.isolation import isolated

HOST = "127.0.0.1"
WORKER_TIMEOUT = 3.0
STALL_SECONDS = 3.5  # longer than that
STALL_EVERY = (4.0, 9.0)  # seconds from one stall to the next
BEGIN_SECONDS = 60.0  # for the attackers to have started
FOLLOW_SECONDS = 25.0  # for who follows to see that the coordinator has ended
AGAIN_SECONDS = 0.5  # from the end of a victim to its next start
VICTIM_SECONDS = 25.0  # for victims to see that the hostile server has
STALLING_LINK, HOSTILE_SERVER = "stalling-link", "hostile-server"
WORKER_VICTIM, FOLLOWER_VICTIM = (f"{who} of the hostile server" for who in ("worker", "follower"))
#: Every kind of attack, and what it is counted in.
UNITS = {STALLING_LINK: "stalls"} | {name: kind.unit for name, kind in attack.KINDS.items()}


@dataclass(frozen=True)
class Plan:
    """What is trained, by how many honest workers, and under which attacks; ``seed`` is theirs."""

    run_dir: Path
    workers: int
    engine: str
    coordinator: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    seed: int = 0


def ended(member: Member, code: int) -> str:
    """For people: how a process has ended."""
    how = f"by signal {-code}" if code < 0 else f"with {code}"
    return f"{member.name} ended {how}: {member.last_line()}"


@dataclass
class Victim:
    """Somebody who is connected to the hostile server, and may end, but not badly."""

    member: Member
    ends: int = 0
    read: int = 0  # of its log
    again: float = 0.0  # when it is to be started again

    def judge(self, code: int) -> str:
        """What was wrong with how it ended; empty if nothing was."""
        self.ends += 1
        text = self.member.log.read_bytes()[self.read :].decode(errors="replace")
        self.read += len(text.encode())
        if code < 0 or code > 2 or "Traceback" in text or (code and "error: " not in text):
            return ended(self.member, code)
        return ""


@dataclass
class Stage:
    """The processes of a plan. ``memory`` is the most that each has had, in bytes, once it ran.

    ``wrong`` says who has ended that should not have.
    """

    plan: Plan
    wrong: list[str] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    stalls: int = 0

    def __post_init__(self) -> None:
        self._logs = self.plan.run_dir / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self.target = Target(HOST, free_port(), self.plan.engine)
        self._elsewhere = Target(HOST, free_port(), self.plan.engine)
        self._rng = random.Random(f"{self.plan.seed} {STALLING_LINK}")
        self._weather_changes, self._stalled = 0.0, False
        self.proxy = Proxy((HOST, self.target.port))
        self.coordinator = self._member(
            "coordinator", "coordinator", "--bind", self.target.address, "--run-dir",
            str(self.plan.run_dir), "--worker-timeout", str(WORKER_TIMEOUT),
            "--parent", str(os.getpid()), *self.plan.coordinator,
        )  # fmt: skip
        addresses = [self.target.address] * (self.plan.workers - 1) + [self.proxy.address]
        self.workers = [
            self._worker(f"worker-{number}", address) for number, address in enumerate(addresses, 1)
        ]
        self.follower = self._follower("follower", self.target)
        self.victims: list[Victim] = []
        if HOSTILE_SERVER in self.plan.kinds:
            patience = ("--patience", "3")
            there = self._elsewhere
            self.victims = [
                Victim(self._worker(WORKER_VICTIM, there.address, *patience)),
                Victim(self._follower(FOLLOWER_VICTIM, there)),
            ]
            for victim in self.victims:  # starting again and again must not take processors away
                victim.member.command[:0] = ["nice", "-n", str(attack.LOWEST)]
        self.attackers = [
            Member(kind, self._attack(kind), self._logs / f"attacker-{kind}.log")
            for kind in self.plan.kinds
            if kind != STALLING_LINK
        ]

    def _member(self, name: str, *arguments: str) -> Member:
        log = self._logs / f"{name.replace(' ', '-')}.log"
        return Member(name, isolated(*arguments), log)

    def _worker(self, name: str, address: str, *more: str) -> Member:
        flags = ("--connect", address, "--name", name, "--engine", self.plan.engine)
        return self._member(name, "worker", *flags, "--parent", str(os.getpid()), *more)

    def _follower(self, name: str, target: Target) -> Member:
        return self._member(
            name, "lab.command_line", "sample", target.address, "--follow", "--num-samples", "1"
        )

    def _attack(self, kind: str) -> list[str]:
        target = self._elsewhere if kind == HOSTILE_SERVER else self.target
        return attack.command(kind, target, self.plan.seed, self._counter(kind))

    def _counter(self, kind: str) -> Path:
        return self.plan.run_dir / f"{kind}.count"

    @property
    def members(self) -> list[Member]:
        """Who must not end."""
        return [self.coordinator, *self.workers, self.follower]

    def done(self) -> dict[str, int]:
        """How often each attack has been made."""
        counts = {kind: attack.count(self._counter(kind)) or 0 for kind in self.plan.kinds}
        return counts | ({STALLING_LINK: self.stalls} if STALLING_LINK in counts else {})

    # --- from the beginning to the end -----------------------------------------------------------

    def open(self) -> None:
        """Start the attackers, and when they are up the run. Raises FleetError."""
        for member in self.attackers:
            member.start()
        deadline = time.monotonic() + BEGIN_SECONDS
        while any(attack.count(self._counter(member.name)) is None for member in self.attackers):
            if time.monotonic() > deadline:
                raise FleetError("the attackers do not start")
            time.sleep(0.05)
        for member in (self.coordinator, *self.workers):
            member.start()

    def begin(self) -> None:
        """The first step is done: from now on the link stalls, and somebody follows."""
        self.follower.start()
        for victim in self.victims:
            victim.member.start()
        self._weather_changes = time.monotonic() + self._rng.uniform(1.0, 2.0)

    def look_after(self) -> bool:
        """See who has ended, and how. Returns whether the coordinator has."""
        for member in self.attackers:
            if (code := member.ended()) is not None:
                raise FleetError(f"attacker {ended(member, code)}")
        for victim in self.victims:
            if (code := victim.member.ended()) is not None:
                self._note(victim.judge(code))
                victim.again = time.monotonic() + AGAIN_SECONDS
            if victim.member.process is None and 0 < victim.again <= time.monotonic():
                victim.member.starts.clear()
                victim.member.start()
        for member in (*self.workers, self.follower):
            if (code := member.ended()) is not None:
                self._end_early(member, code)
        if (code := self.coordinator.ended()) is not None:
            if code:
                self._note(ended(self.coordinator, code))
            return True
        return False

    def _end_early(self, member: Member, code: int) -> None:
        """Workers may hear the last word before we see that the coordinator has ended."""
        process = self.coordinator.process
        if process is not None and code == 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(FOLLOW_SECONDS)
        if code or (process is not None and process.poll() is None):
            self._note(ended(member, code))

    def _note(self, text: str) -> None:
        if text:
            self.wrong.append(text)

    def change_weather(self) -> None:
        """Let the link of the last worker stall from time to time, if that is one of the kinds."""
        now = time.monotonic()
        if STALLING_LINK not in self.plan.kinds or now < self._weather_changes:
            return
        if self._stalled:
            self.proxy.calm()
            self._weather_changes = now + self._rng.uniform(*STALL_EVERY)
        else:
            self.proxy.freeze()
            self.stalls += 1
            self._weather_changes = now + STALL_SECONDS
        self._stalled = not self._stalled

    def weigh(self) -> None:
        """Look how much memory everybody has."""
        for member in (*self.members, *(victim.member for victim in self.victims)):
            if member.alive is not None:
                with contextlib.suppress(OSError, IndexError):
                    most = self.memory.get(member.name, 0)
                    self.memory[member.name] = max(most, memory(member.alive.pid))

    def finish(self) -> None:
        """The run is over: workers and who follows end, victims when the server has ended."""
        self.proxy.calm()
        for member in self.attackers:
            member.kill()
        self._see_out([self.follower], FOLLOW_SECONDS, "the coordinator")
        self._see_out([v.member for v in self.victims], VICTIM_SECONDS, "the hostile server")

    def _see_out(self, members: list[Member], seconds: float, whom: str) -> None:
        deadline = time.monotonic() + seconds
        for member in members:
            while (code := member.ended()) is None and member.process is not None:
                if time.monotonic() > deadline:
                    self._note(f"{member.name} has not ended {seconds:.0f} s after {whom}")
                    break
                time.sleep(0.02)
            if code is not None and (code < 0 or code > 2):
                self._note(ended(member, code))

    def complaints(self) -> Iterator[str]:
        """What the logs say that they should not."""
        for log in sorted(self._logs.iterdir()):
            for line in log.read_text(errors="replace").splitlines():
                if line.startswith("Traceback") or "Assertion failed" in line:
                    yield f"in {log.name}: {line}"
                    break

    def close(self) -> None:
        """End everybody."""
        victims = [victim.member for victim in self.victims]
        for member in (*self.attackers, *victims, self.follower, *self.workers, self.coordinator):
            member.kill()
        self.proxy.close()
