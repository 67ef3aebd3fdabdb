"""List the runs of a folder: ``python scripts/runs.py``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich")

from lab.report.runs import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/runs.py")
