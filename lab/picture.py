"""A picture of what a terminal shows in the middle of a real training."""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from microgpt.support import cli

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, LINES = 96, 30
STEPS = 6000
#: As ``coordinator.run.screen`` draws it.
BLOCK = re.compile(r"\r\x1b\[\?7l(.*?)\x1b\[\?7h\r(?:\x1b\[\d+A)?", re.DOTALL)
ERASING = re.compile(r"\x1b\[2K|\x1b\[J|\x1b\[\?25[lh]|\r")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--output", "-o", type=click.Path(path_type=Path), default=ROOT / "docs/console.svg")
@click.option("--step", type=cli.Whole(1, STEPS - 1), default=STEPS // 2, show_default=True)
def main(output: Path, step: int) -> None:
    """Train for a while and draw the terminal as it is once STEP is done."""
    with tempfile.TemporaryDirectory(prefix="microgpt-picture-") as place:
        shown = watch(place, step)
    said, block = BLOCK.sub("", shown), BLOCK.findall(shown)[-1]
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True)
    for part in (said, block):
        console.print(Text.from_ansi(ERASING.sub("", part).rstrip("\n")))
    title = f'make train ARGS="--steps {STEPS}"'
    output.write_text(console.export_svg(title=title, unique_id="console"), encoding="utf-8")
    click.echo(f"drawn to {output}")


def watch(place: str, step: int) -> str:
    """All that a training has written to its terminal when ``step`` was shown. It is ended then."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--steps", str(STEPS)]
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(  # noqa: S603  # our own script
        command, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as train:
        os.close(theirs)
        data = b""
        reached = 0
        while reached < step:
            data += os.read(ours, 65536)  # raises OSError if the training ends before
            text = data.decode(errors="replace").replace("\r\n", "\n")
            blocks = BLOCK.findall(text)
            plain = Text.from_ansi(blocks[-1]).plain if blocks else ""
            done = re.search(r"step ([\d,]+) / ", plain)
            reached = int(done.group(1).replace(",", "")) if done else 0
        train.send_signal(signal.SIGINT)
        while train.poll() is None:
            drain(ours)
    os.close(ours)
    return text


def drain(terminal: int) -> None:
    """Read what there is to read, so that nobody waits for us."""
    try:
        os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return
