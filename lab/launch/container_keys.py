"""The keys of a container: the coordinator's in one volume, what its workers need in another."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from microgpt.protocol.keys import has_coordinator
from microgpt.support.cli import UserError

KEYS = Path("/keys")  # of the coordinator; of its workers where they are started by hand
WORKER_KEYS = Path("/worker-keys")  # mounted by the coordinator and its workers
AGGREGATOR_KEYS = Path("/aggregator-keys")  # of aggregators, towards workers below them
BELOW_KEYS = Path("/below-keys")  # mounted by aggregators and the workers below them


def make_keys(directory: Path, workers: Path | None = None) -> None:
    """Make the CURVE keys that are missing, and give the folder of the workers what they need.

    Raises UserError.
    """
    from coordinator.net.curve import give_to_workers
    from coordinator.net.curve import make_keys as make

    if workers is not None and directory.is_dir() and directory.samefile(workers):
        raise UserError(
            "MICROGPT_WORKER_KEYS is the folder with the coordinator's private key, which no "
            "worker should see: leave it out on the coordinator's host"
        )
    make(directory)
    if workers is not None:
        give_to_workers(directory, workers)


def make_bundle(directory: Path, name: str) -> Path:
    """Make a folder with what workers of one kind or host need, and let their key in.

    Returns the folder. Raises UserError.
    """
    from coordinator.net.curve import make_bundle as make  # loads asyncio

    return make(directory, name)


def close_to_others(path: Path) -> None:
    """Make a new volume ours alone, which the image leaves open to whoever it will run as.

    A folder of the user's keeps its mode: no folder for keys is open to all on purpose.
    """
    try:
        entry = path.stat()
    except OSError:
        return
    if entry.st_uid == os.geteuid() and stat.S_IMODE(entry.st_mode) == 0o1777:
        path.chmod(0o700)


def tell_of_the_other_variable(environment: Mapping[str, str]) -> None:
    """Say so if somebody names the keys of workers on a host of their own as the coordinator's.

    That was right before each had a folder of its own.
    """
    named = environment.get("MICROGPT_KEYS")
    address = environment.get("MICROGPT_COORDINATOR", "")
    elsewhere = "//coordinator:" not in address and "//aggregator:" not in address
    if named and elsewhere and not has_coordinator(WORKER_KEYS):
        print(
            f"workers do not use MICROGPT_KEYS: give MICROGPT_WORKER_KEYS={named}",
            file=sys.stderr,
            flush=True,
        )
