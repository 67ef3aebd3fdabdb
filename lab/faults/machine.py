"""What takes a machine's permission: network namespaces with a link, and a small disk.

Both undo themselves when closed. ``why_not`` says in one line why a machine does not allow them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

#: Addresses that RFC 2544 sets aside for tests. They exist in our own namespaces only.
INSIDE, OUTSIDE = "198.18.0.1", "198.18.0.2"
FILLER = "filler"
NAMESPACES = Path("/run/netns")  # where ``ip`` keeps them
CLONE_NEWNS = 0x00020000
PATIENCE = 5.0  # seconds for a file to be closed that keeps a disk busy


class NotAllowedError(Exception):
    """The machine does not let us do this; the message is one line."""


def run(*command: str) -> None:
    """Run a system command. Raises NotAllowedError with its last line."""
    path = shutil.which(command[0])
    if path is None:
        raise NotAllowedError(f"there is no program {command[0]!r}")
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NotAllowedError(f"{' '.join(command)}: {last}")


def seclude() -> None:
    """Give this thread and its children mounts of their own.

    What is mounted from now on, network namespaces too, is gone when the last of them ends, however
    that happens. Without permission nothing changes; then nothing can be mounted anyway.
    """
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0:
        with contextlib.suppress(NotAllowedError, OSError):
            run("mount", "--make-rprivate", "/")
            NAMESPACES.mkdir(exist_ok=True)
            run("mount", "-t", "tmpfs", "tmpfs", str(NAMESPACES))


class Network:
    """Two network namespaces, ``inside`` and ``outside``, and a link between them.

    Nothing in them can reach the machine's own network, nor be reached from it.
    """

    def __init__(self, label: str) -> None:
        self.inside, self.outside = f"{label}-in", f"{label}-out"
        self._link = "link0"
        self._made: list[str] = []
        try:
            for name in (self.inside, self.outside):
                run("ip", "netns", "add", name)
                self._made.append(name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", self.inside, "link", "add", self._link, "type", "veth",
                "peer", "name", self._link, "netns", self.outside)  # fmt: skip
            for name, address in ((self.inside, INSIDE), (self.outside, OUTSIDE)):
                run("ip", "-n", name, "address", "add", f"{address}/30", "dev", self._link)
                run("ip", "-n", name, "link", "set", self._link, "up")
        except NotAllowedError:
            self.close()
            raise

    def link(self, state: str) -> None:
        """``down`` takes the link away as pulling a cable does; ``up`` gives it back."""
        run("ip", "-n", self.outside, "link", "set", self._link, state)

    def enter(self, name: str) -> list[str]:
        """The beginning of a command that is to run in a namespace."""
        return [shutil.which("ip") or "ip", "netns", "exec", name]

    def path(self, name: str) -> str:
        """The file that stands for a namespace."""
        return str(NAMESPACES / name)

    def close(self) -> None:
        """Take everything away again. Processes inside must have ended."""
        for name in self._made:
            with contextlib.suppress(NotAllowedError):
                run("ip", "netns", "delete", name)
        self._made.clear()


class SmallDisk:
    """A file system of its own on ``directory``, which can be filled and made read-only."""

    def __init__(self, directory: Path, size: int = 32 << 20) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(directory))
        self._mounted = True

    def fill(self) -> None:
        """Leave no space at all."""
        with contextlib.suppress(OSError), open(self.directory / FILLER, "ab", 0) as file:
            while True:
                file.write(bytes(4096))  # until there is no room for it

    def drain(self) -> None:
        """Give the space back."""
        (self.directory / FILLER).unlink(missing_ok=True)

    def read_only(self, on: bool) -> None:
        """Refuse to write, or allow it again."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                run("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.directory))
                return
            except NotAllowedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # a file is being written

    def close(self) -> None:
        """Keep the files, but on the disk below; unmount."""
        if not self._mounted:
            return
        self._mounted = False
        self.read_only(False)
        self.drain()
        kept = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        run("umount", str(self.directory))
        for name, data in kept.items():
            (self.directory / name).write_bytes(data)


@cache
def why_no_network() -> str:
    """Why namespaces cannot be had here; empty if they can."""
    try:
        Network(f"mgpt{os.getpid()}t").close()
    except NotAllowedError as error:
        return f"no network namespaces: {error}"
    return ""


def why_no_disk(scratch: Path) -> str:
    """Why nothing can be mounted in a scratch directory; empty if it can."""
    try:
        SmallDisk(scratch / "probe", 1 << 20).close()
    except NotAllowedError as error:
        return f"no mounting: {error}"
    return ""


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
