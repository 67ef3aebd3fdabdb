"""``python -m lab.faults.attack KIND HOST PORT ...``: one attacker, until it is killed.

The process is one of those that ``scripts/chaos.py strangers`` starts, and ends with it.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import zmq

from lab.faults import attackers, attackers_members, attackers_server, attackers_zmq
from lab.faults.attackers import Attack, Target

PR_SET_PDEATHSIG = 1
LOWEST = 19  # priority: on a real network attackers would not take this machine's processors
PAUSE = 0.05  # seconds after an attempt that failed
DIGITS = 20


@dataclass(frozen=True)
class Kind:
    """An attack, and what its rounds are counted in."""

    attack: Attack
    unit: str


KINDS = {
    "flood-and-close": Kind(attackers_zmq.flood_and_close, "connections"),
    "same-identity": Kind(attackers_zmq.same_identity, "connections"),
    "never-reading": Kind(attackers_zmq.never_reading, "members"),
    "garbage": Kind(attackers.garbage, "connections"),
    "half-open": Kind(attackers.half_open, "connections"),
    "pings": Kind(attackers.pings, "connections"),
    "raw-flood": Kind(attackers.raw_flood, "MiB"),
    "endless": Kind(attackers.endless, "messages"),
    "claimed-failures": Kind(attackers_members.claimed_failures, "shards"),
    "impossible-seconds": Kind(attackers_members.impossible_seconds, "shards"),
    "huge-gradients": Kind(attackers_members.huge_gradients, "shards"),
    "malformed-answers": Kind(attackers_members.malformed_answers, "shards"),
    "lazy-members": Kind(attackers_members.lazy, "shards"),
    "hostile-server": Kind(attackers_server.hostile_server, "connections"),
}


def command(kind: str, target: Target, seed: int, counter: Path) -> list[str]:
    """What starts an attacker. ``counter`` is a file that will say how often it has done it."""
    where = [target.host, str(target.port), target.engine]
    module = "lab.faults.attack"
    return [sys.executable, "-m", module, kind, *where, str(seed), str(counter), str(os.getpid())]


def count(counter: Path) -> int | None:
    """What an attacker has done so far; None if it has not begun."""
    try:
        return int(counter.read_text())
    except (FileNotFoundError, ValueError):
        return None


def main(arguments: list[str]) -> None:
    """Attack without end."""
    kind, host, port, engine, seed, counter, parent = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return  # it has ended already
    attack, rng = KINDS[kind].attack, random.Random(f"{seed} {kind}")
    target = Target(host, int(port), engine)
    file = os.open(counter, os.O_WRONLY | os.O_CREAT, 0o600)
    done = 0
    os.pwrite(file, b"%*d" % (DIGITS, done), 0)
    os.nice(LOWEST)  # not before: to start takes time, too
    while True:
        try:
            for number in attack(rng, target):
                done += number
                os.pwrite(file, b"%*d" % (DIGITS, done), 0)
        except (OSError, zmq.ZMQError):
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1:])
