"""Writing a file so that under its name there is never half of it, whenever the power fails.

Written beside, synced, renamed; then the directory is synced.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from microgpt.checkpoint.container import CheckpointError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Put ``data`` at ``path``, durably, so that a reader sees the old file or the whole new one.

    Nothing but a regular file is written over: no folder, no device, no pipe. Raises
    CheckpointError; nothing is left behind then.
    """
    path = Path(path)
    if not _is_place(path):
        raise CheckpointError(f"{path} is no regular file: give the name of one, or a new name")
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _cannot_write(path, error) from error


def _is_place(path: Path) -> bool:
    """Whether a regular file is at ``path``, or nothing."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # whoever writes there says what is wrong
        return True


def _cannot_write(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be written: {error.strerror}")


def link_atomically(source: Path, target: Path) -> bool:
    """Make ``target`` another name of the file ``source``, as ``write_atomically`` would.

    False if that cannot be done here, as on file systems without hard links; ``target`` is the old
    or the new file then.
    """
    temporary = target.with_name(f".{target.name}.link")
    try:
        temporary.unlink(missing_ok=True)  # of a writer that was killed
        os.link(source, temporary)
        os.replace(temporary, target)
        _sync_directory(target.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
