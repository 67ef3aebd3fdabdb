"""Where the CURVE keys of a run lie, the same on both sides.

In ``--curve DIR`` of the coordinator::

    coordinator.key          its public key: copy it to every worker's folder
    coordinator.key_secret   its private key (readable by the owner only)
    worker.key               a worker's public key
    worker.key_secret        the private key of workers that share this folder
    workers/*.key            the public keys of the workers that are let in

Files are in the format of ``zmq.auth``. A folder that is made here is the owner's alone, and has a
``.gitignore`` that keeps all of it out of git; one that exists keeps its permissions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from microgpt.support.cli import UserError

COORDINATOR = "coordinator"
WORKER = "worker"
ALLOWED = "workers"
PUBLIC = ".key"
SECRET = ".key_secret"  # noqa: S105  # a file name
SECRET_LINE = "secret-key"  # noqa: S105  # how the line with the private key begins

#: ``create(directory, name)`` makes two files and returns their paths: public and private key.
Create: TypeAlias = Callable[[str, str], tuple[str, str]]


def check_private(path: Path) -> None:
    """Raise UserError if others than the owner may read or write a private key."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise UserError(f"cannot read the key {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"the private key {path} is open to others: chmod 600 {path}")


def has_coordinator(directory: Path) -> bool:
    """Whether the coordinator's public key has arrived in the folder.

    Raises UserError if we may not look into it.
    """
    try:
        return (directory / (COORDINATOR + PUBLIC)).exists()
    except OSError as error:
        raise UserError(f"cannot look into {directory}: {error.strerror}") from error


def make_folder(directory: Path) -> None:
    """Make a folder for keys unless it is there. Raises OSError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        (directory / ".gitignore").write_text("*\n")


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Make keys in a folder while no other process does; it waits here. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_pair(directory: Path, name: str, create: Create) -> None:
    """Make the private key of ``name`` unless it is there, and the public key that belongs to it.

    ``create``: ``zmq.auth.create_certificates``. By one process at a time (see ``alone``), which
    may be killed at any moment. Raises OSError.
    """
    secret_file = directory / (name + SECRET)
    with tempfile.TemporaryDirectory(dir=directory) as temporary:  # readable by us only
        if not secret_file.exists():
            place(Path(create(temporary, name)[1]), secret_file, 0o600)
        lines = secret_file.read_text(errors="replace").splitlines(keepends=True)
        public = Path(temporary) / (name + PUBLIC)
        public.write_text("".join(x for x in lines if not x.strip().startswith(("#", SECRET_LINE))))
        place(public, directory / (name + PUBLIC), 0o644)


def place(source: Path, target: Path, mode: int) -> None:
    """Move a new key file to its place with these permissions."""
    os.chmod(source, mode)
    os.replace(source, target)
