"""Put runs side by side: ``python scripts/compare.py runs/a runs/b``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich")

from lab.report.compare import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/compare.py")
