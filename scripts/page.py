"""Show a run in a browser: ``python scripts/page.py runs/latest``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "numpy", "requests", "rich")

from microgpt.support import signals

signals.leave_quietly()

from lab.page.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/page.py")
