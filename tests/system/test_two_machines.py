"""The README's "By hand, and on several machines", step by step, in two networks with a link.

The commands are those of the README. Each host has a folder of its own, empty to begin with.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.core.events import Joined
from lab.faults.machine import INSIDE, OUTSIDE, Network
from microgpt.checkpoint import format as checkpoint_format
from tests.conftest import Reference
from tests.processes import ROOT, TINY_VARIABLES, Lab, Process

pytestmark = [pytest.mark.timeout(300), pytest.mark.soak]

STEPS = 100


@pytest.fixture
def hosts(network: Network, tmp_path: Path) -> Iterator[list[Lab]]:
    """Folders of the coordinator's host and of two that have workers."""
    made = []
    try:
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            made.append(Lab(tmp_path / name))
        yield made
    finally:
        for lab in made:
            lab.close()


def readme() -> str:
    """The part of the README."""
    found = re.search(r"^### By hand.*?(?=^###)", (ROOT / "README.md").read_text(), re.M | re.S)
    assert found is not None
    return found.group()


def follow(lab: Lab, network: Network, where: str, program: str, **settings: str) -> Process:
    """What the README says to type on a host, with other settings as variables."""
    (line,) = re.findall(rf"^python (-m {program} .*?) *(?:#.*)?$", readme(), re.MULTILINE)
    arguments = shlex.split(line.replace("HOST", INSIDE))
    command = [*network.enter(where), sys.executable, *arguments]
    return lab.start(*command, name=program, **settings)


def test_the_readme_on_several_machines(
    network: Network, hosts: list[Lab], reference: Reference
) -> None:
    one, two, three = hosts
    for lab in hosts:
        lab.slow_down(0.02)
    settings = TINY_VARIABLES | {"MICROGPT_STEPS": str(STEPS), "MICROGPT_BATCH_SIZE": "2"}
    settings |= {"MICROGPT_DATA": str(one.data), "MICROGPT_RUN_DIR": "runs/it"}
    settings["MICROGPT_WORKER_TIMEOUT"] = "200"
    coordinator = follow(one, network, network.inside, "coordinator", **settings)
    run = one.run_dir()
    run.endpoint()

    # "copy them ...": the files that it names, and no others.
    files = re.findall(r"`(keys/\w+\.key(?:_secret)?)`", readme())
    assert len(files) == 3
    (two.place / "keys").mkdir()
    for name in files:
        shutil.copy(one.place / name, two.place / name)
    scalar = {"MICROGPT_ENGINE": "scalar"}
    workers = [follow(two, network, network.outside, "worker", MICROGPT_NAME="copied", **scalar)]
    run.happens("joined")
    workers[0].send(signal.SIGSTOP)  # the run is not to be over before we are

    # "or let them make a pair of their own and copy their worker.key into keys/workers/".
    (three.place / "keys").mkdir()
    shutil.copy(one.place / "keys" / "coordinator.key", three.place / "keys")
    stranger = follow(three, network, network.outside, "worker", **scalar)
    stranger.expected = True
    assert stranger.wait() == 1
    assert "copy keys/worker.key into the folder workers/ of its keys" in stranger.err
    shutil.copy(three.place / "keys" / "worker.key", one.place / "keys" / "workers" / "three.key")
    workers += [follow(three, network, network.outside, "worker", MICROGPT_NAME="own", **scalar)]
    run.happens("joined", 2)
    workers[0].send(signal.SIGCONT)

    assert coordinator.wait() == 0
    assert [worker.wait() for worker in workers] == [0, 0]
    joined = {(each.name, each.host) for each in run.events(Joined)}
    assert joined == {("copied", OUTSIDE), ("own", OUTSIDE)}
    expected = reference(STEPS, batch_size=2).state_sha256
    assert checkpoint_format.load(run.newest).state_sha256 == expected
