"""Show a run on a terminal: ``python scripts/top.py runs/latest``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich")

from microgpt.support import signals

signals.leave_quietly()

from lab.top.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/top.py")
