"""Where the CURVE keys of a run lie, the same on both sides.

In ``--curve DIR`` of the coordinator::

    coordinator.key          its public key: copy it to every worker's folder
    coordinator.key_secret   its private key (readable by the owner only)
    worker.key               a worker's public key
    worker.key_secret        the private key of workers that share this folder
    workers/*.key            the public keys of the workers that are let in

Files are in the format of ``zmq.auth``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from microgpt.cli import UserError

COORDINATOR = "coordinator"
WORKER = "worker"
ALLOWED = "workers"
PUBLIC = ".key"
SECRET = ".key_secret"  # noqa: S105  # a file name


def check_private(path: Path) -> None:
    """Raise UserError if others than the owner may read or write a private key."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise UserError(f"cannot read the key {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"the private key {path} is open to others: chmod 600 {path}")


def place(source: Path, target: Path, mode: int) -> None:
    """Move a new key file to its place with these permissions. An existing one stays."""
    os.chmod(source, mode)
    if target.exists():
        source.unlink()
    else:
        os.replace(source, target)
