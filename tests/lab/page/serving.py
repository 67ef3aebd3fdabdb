"""A page served by a process of its own, and what a viewer hears of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.processes import PATIENCE, ROOT, Process

Message = tuple[str, str, Any]  # id, name, data


class Served(NamedTuple):
    """A page. ``address`` is host and port; ``pid``: of its process, where we have started it."""

    url: str
    pid: int = 0

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0


@contextlib.contextmanager
def served(
    run_dir: Path, *flags: str, passed: Sequence[int] = (), **variables: str
) -> Iterator[Served]:
    """The page of a run, at a free port; gone afterwards. It gets descriptors and variables."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "lab.page", str(run_dir), "--announce", str(writing)]
    process = subprocess.Popen(
        [*command, "--port", "0", *flags], cwd=ROOT, pass_fds=[writing, *passed],
        stderr=subprocess.PIPE, env={**os.environ, **variables},
    )  # fmt: skip
    os.close(writing)
    try:
        with open(reading) as pipe:
            url = pipe.readline().strip()
        assert url, process.communicate()[1].decode()
        yield Served(url, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()


def page_of(train: Process) -> Served:
    """The page of a run that was started with ``--page``."""
    train.says("page: http")
    lines = train.out.splitlines()
    return Served(next(line for line in lines if line.startswith("page: http"))[6:])


class Viewer:
    """Reads the stream of a page, without a browser."""

    def __init__(self, page: Served, *headers: str, path: str = "/api/stream") -> None:
        self._socket = socket.create_connection(page.address, timeout=PATIENCE)
        lines = [f"GET {path} HTTP/1.1", f"Host: {page.address[0]}:{page.address[1]}", *headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = dict(self._header_lines())

    def _header_lines(self) -> Iterator[tuple[str, str]]:
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            yield name.lower(), value

    def messages(self) -> Iterator[Message]:
        """As they come, until the server ends the stream."""
        fields: dict[str, str] = {}
        for line in self._lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}

    def _lines(self) -> Iterator[str]:
        rest = b""
        while size := int(self._file.readline() or b"0", 16):
            rest += self._file.read(size)
            self._file.readline()
            *lines, rest = rest.split(b"\n")
            yield from (line.decode() for line in lines)

    def until(self, name: str, **values: Any) -> Any:
        """The data of the next message of that name whose values are these."""
        for _, found, data in self.messages():
            if found == name and all(data.get(key) == value for key, value in values.items()):
                return data
        raise AssertionError(f"the stream has ended without {name} {values}")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
