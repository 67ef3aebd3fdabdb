"""``bench.py page``: what a page and a viewer cost a run, and how fast a viewer sees something.

One run goes on all the time; the page and its viewer come and go by turns, so that whatever else
the machine does hits all alike. Run as a program this file is the viewer, without a browser.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import click

from lab.bench.long_record import write_long_record
from lab.bench.programs import running
from lab.bench.progress import Steps
from lab.page.needs import require
from lab.page.record_search import time_of
from microgpt.support import cli
from microgpt.support.cli import say
from microgpt.support.isolation import isolated

NONE, AGAIN, ALONE, VIEWED = "no page", "no page again", "page", "page and viewer"
KINDS = (NONE, ALONE, VIEWED, AGAIN)
SETTLE_SECONDS = 1.0
STARTS_SECONDS = 60.0  # a run and a page may take so long to begin
ENDLESS = 10**8
LONG = 100_000  # steps of the run that is opened


@click.command()
@click.option("--workers", type=cli.Whole(1), default=2, help="Worker processes.")
@click.option("--seconds", type=cli.Number(0.1), default=5.0, help="Each measurement lasts.")
@click.option("--repeats", type=cli.Whole(1), default=6, help="Measurements of each kind.")
@click.option("--steps", type=cli.Whole(100), default=LONG, help="Of the run that is opened.")
def page(workers: int, seconds: float, repeats: int, steps: int) -> None:
    """Compare steps per second with and without a page and its viewer, all events recorded."""
    require("bench page")
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as name:
        folder = Path(name)
        turns = by_turns(folder, workers, seconds, repeats)
        show(rates(folder / "run", turns.windows), turns)
        first_views(folder / "long", steps)


@dataclass
class Turns:
    """What was measured: ``windows`` of time of each kind, how old in seconds was what a viewer was
    told, and seconds of a processor that the page took in each window in which there was one.
    """

    windows: dict[str, list[tuple[float, float]]]
    delays: list[float] = field(default_factory=list)
    busy: dict[str, list[float]] = field(default_factory=lambda: {ALONE: [], VIEWED: []})


def show(found: dict[str, list[float]], turns: Turns) -> None:
    """The table."""
    base = statistics.median(found[NONE] + found[AGAIN])
    for kind in KINDS:
        middle = statistics.median(found[kind])
        each = " ".join(f"{rate:,.0f}" for rate in found[kind])
        say(f"{kind:16} {middle:7,.0f} steps/s {100 * middle / base:6.1f} %   ({each})")
    for kind, busy in turns.busy.items():
        lasted = sum(ended - begun for begun, ended in turns.windows[kind])
        say(f"{kind:16} takes {100 * sum(busy) / lasted:.1f} % of one processor")
    if delays := sorted(turns.delays):
        middle, most = 1e3 * statistics.median(delays), 1e3 * delays[int(0.95 * len(delays))]
        say(f"from an event to its viewer: {middle:.0f} ms, 95 % within {most:.0f} ms")


def by_turns(folder: Path, workers: int, seconds: float, repeats: int) -> Turns:
    """Measure each kind several times."""
    run_dir, bind = folder / "run", f"ipc://{folder}/socket"
    flags = ["--data", "embedded", "--quiet", "--events", "full", "--checkpoint-every", "1000"]
    flags += ["--keep-last", "2", "--steps", str(ENDLESS), "--bind", bind]
    commands = [isolated("coordinator", *flags, "--run-dir", str(run_dir))]
    commands += [isolated("worker", "--connect", bind)] * workers
    turns = Turns({kind: [] for kind in KINDS})
    steps = Steps("page", len(KINDS) * repeats)
    with running(folder, *commands):
        for turn, place in product(range(repeats), range(len(KINDS))):
            kind = KINDS[(place + turn) % len(KINDS)]
            with steps.next(f"turn {turn + 1} of {repeats}, {kind}"):
                await_steps(run_dir)
                with beside(run_dir, kind) as (page, viewer):
                    time.sleep(SETTLE_SECONDS)
                    begun, busy = time.time(), processor_of(page)
                    time.sleep(seconds)
                    turns.windows[kind].append((begun, time.time()))
                    if page:
                        turns.busy[kind].append(processor_of(page) - busy)
                    if viewer is not None:
                        viewer.terminate()
                        turns.delays += json.loads(viewer.communicate()[0])
    return turns


def processor_of(pid: int) -> float:
    """Seconds of processors that a process has taken; 0 for none."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def await_steps(run_dir: Path) -> None:
    """Wait until the run is under way. Raises ClickException."""
    until = time.monotonic() + STARTS_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if (run_dir / "metrics.jsonl").stat().st_size > 10_000:
                return
        time.sleep(0.1)
    raise click.ClickException("the run does not begin")


@contextlib.contextmanager
def beside(run_dir: Path, kind: str) -> Iterator[tuple[int, subprocess.Popen[bytes] | None]]:
    """A page and a viewer that has had its first message, as the kind has them: the number of the
    page's process, and the viewer's process.
    """
    with contextlib.ExitStack() as stack:
        page, viewer = 0, None
        if kind in (ALONE, VIEWED):
            page, url = stack.enter_context(paged(run_dir))
            if kind == VIEWED:
                viewer = stack.enter_context(started(isolated("lab.bench.page", url)))
                assert viewer.stderr is not None  # noqa: S101  # it is a pipe
                viewer.stderr.readline()
        yield page, viewer


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with pipes; it has ended after this."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe)  # noqa: S603  # ours
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def paged(run_dir: Path) -> Iterator[tuple[int, str]]:
    """A page of the run that is up: the number of its process, and its address."""
    reading, writing = os.pipe()
    flags = [str(run_dir), "--port", "0", "--announce", str(writing)]
    process = subprocess.Popen(isolated("lab.page", *flags), pass_fds=[writing])  # noqa: S603  # ours
    os.close(writing)
    try:
        with open(reading) as pipe:
            url = pipe.readline().strip()
        if not url:
            raise click.ClickException("the page does not begin")
        yield process.pid, url
    finally:
        process.terminate()
        process.wait()


def rates(run_dir: Path, windows: dict[str, list[tuple[float, float]]]) -> dict[str, list[float]]:
    """Steps per second in each window, by the times of the steps."""
    times: list[float] = []
    with open(run_dir / "events.jsonl", "rb") as file:
        for line in file:
            if line.startswith(b'{"kind": "step_done"'):
                times.append(time_of(line) or 0.0)

    def rate(begun: float, ended: float) -> float:
        return sum(begun <= each < ended for each in times) / (ended - begun)

    return {kind: [rate(*window) for window in found] for kind, found in windows.items()}


def first_views(run_dir: Path, steps: int) -> None:
    """How long it takes to see a long run, all of whose events are recorded."""
    write_long_record(run_dir, steps)
    size = sum(path.stat().st_size for path in run_dir.iterdir()) / 1e6
    began = time.monotonic()
    with paged(run_dir) as (_, url):
        up = time.monotonic()
        connection, answer = ask(url)
        message(answer)
        done = time.monotonic()
        connection.close()
    say(
        f"a run of {steps:,} steps ({size:,.0f} MB): {done - began:.2f} s from the command to the "
        f"first message, {done - up:.2f} s from the request"
    )


# --- the viewer ----------------------------------------------------------------------------------


def ask(url: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Begin to watch."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.request("GET", "/api/stream")
    return connection, connection.getresponse()


def message(answer: http.client.HTTPResponse) -> tuple[str, bytes]:
    """The name and the data of the next message; no name at the end."""
    name = ""
    while line := answer.readline():
        if line.startswith(b"event: "):
            name = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            return name, line[6:]
    return "", b""


def view(url: str) -> None:
    """Watch until a signal comes, and print how old the newest step of each message was."""
    from microgpt.support import signals

    delays: list[float] = []
    connection, answer = ask(url)
    message(answer)
    signals.answer_as_usual()
    print("watching", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt, OSError):
        import signal

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while (found := message(answer))[0]:
            if found[0] == "steps" and (told := json.loads(found[1])["time"][-1]) is not None:
                delays.append(time.time() - told)
    print(json.dumps(delays))
    connection.close()


if __name__ == "__main__":
    view(sys.argv[1])
