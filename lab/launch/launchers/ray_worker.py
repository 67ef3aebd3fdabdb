"""An actor of Ray around the ordinary worker program. Runs on the nodes; imports nothing of Ray.

The worker is a process of its own: what it dies of is no trouble of the actor's, who tells it. It
ends with the actor, and both end with Ray's process on their node: what Ray has lost sight of
would otherwise go on for as long as the coordinator is there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from lab.launch.launchers.base import WorkerKeys
from microgpt.support.isolation import isolated

#: So much of what a worker prints is kept until somebody takes it.
MOST_KEPT = 1 << 20  # bytes
#: A question without news is answered after so long, and asked again.
NEWS_SECONDS = 30.0
ORPHAN_SECONDS = 0.25  # between looks for the process that has started us
NOTHING_SEEN = -1


@dataclass(frozen=True)
class Report:
    """What has become of a worker.

    ``actor``: a word that no other start of an actor has. ``host``: the name of its machine.
    ``ready``: it has made its engine. ``output``: what it has
    printed since the last report, and ``seen`` how many bytes in all. ``code``: with what it has
    ended, the number of a signal being negative; None while it runs.
    """

    actor: str
    host: str
    ready: bool
    output: bytes
    seen: int
    code: int | None


class KeyFolder:
    """A folder with the keys, which is gone after ``remove``, and also when we are killed.

    The shell that removes it waits for the end of a pipe of ours. Raises OSError.
    """

    def __init__(self, keys: WorkerKeys) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="microgpt-keys-"))
        self._remover = subprocess.Popen(  # noqa: S603  # no words of others
            ["/bin/sh", "-c", 'cat; rm -rf -- "$1"', "sh", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        keys.write(self.path)

    def remove(self) -> None:
        """The keys have been read."""
        self._remover.communicate()


class WorkerActor:
    """Starts ``python -m worker`` with these flags, and keys if there are any. Raises OSError."""

    def __init__(self, flags: list[str], keys: WorkerKeys | None) -> None:
        self._changed = threading.Condition()
        self._id = uuid.uuid4().hex
        self._ready = False
        self._code: int | None = None
        self._output, self._seen = b"", 0
        self._keys = KeyFolder(keys) if keys is not None else None
        if self._keys is not None:
            flags = [*flags, "--curve", str(self._keys.path)]
        reading, writing = os.pipe()
        ours = ["--parent", str(os.getpid()), "--announce", str(writing)]
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                isolated("worker", *flags, *ours),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
            )
        except OSError:
            os.close(reading)
            self._remove_keys()
            raise
        finally:
            os.close(writing)
        for work, arguments in (
            (self._await_ready, (reading,)), (self._read, ()), (self._end_with, (os.getppid(),)),
        ):  # fmt: skip
            threading.Thread(target=work, args=arguments, daemon=True).start()

    def report(self, seen: int, ready: bool) -> Report:
        """Wait for news and tell it; at once if ``seen`` is ``NOTHING_SEEN``.

        ``seen``: how many bytes of the output whoever asks has; ``ready``: whether it knows that
        the engine is made. Where more has been printed than is kept, the first of it is missing.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: seen < self._seen or self._ready != ready or self._code is not None,
                NEWS_SECONDS,
            )
            new = self._seen - max(seen, 0)
            output = self._output[-new:] if new else b""
            return Report(
                self._id, socket.gethostname(), self._ready, output, self._seen, self._code
            )

    def leave(self, seconds: float) -> None:
        """Ask the worker to leave, as Ctrl-C would; kill it if it has not within the time."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # --- threads ---------------------------------------------------------------------------------

    def _await_ready(self, reading: int) -> None:
        """The keys have been read by then, and need not lie about any longer."""
        with open(reading, "rb") as pipe:
            ready = pipe.readline().endswith(b"\n")
        self._remove_keys()
        with self._changed:
            self._ready = ready
            self._changed.notify_all()

    def _remove_keys(self) -> None:
        if self._keys is not None:
            self._keys.remove()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        for line in self._process.stdout:
            print(line.decode(errors="replace"), end="", flush=True)  # Ray's logs have it, too
            with self._changed:
                self._output = (self._output + line)[-MOST_KEPT:]
                self._seen += len(line)
                self._changed.notify_all()
        code = self._process.wait()
        with self._changed:
            self._code = code
            self._changed.notify_all()

    def _end_with(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        self._process.kill()
        os._exit(1)
