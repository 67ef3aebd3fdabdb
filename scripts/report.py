"""Write a page about runs that can be kept: ``python scripts/report.py runs/a -o report.html``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich")

from lab.report.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/report.py")
