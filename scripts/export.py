"""Hand a run to other programs: ``python scripts/export.py runs/latest --tensorboard``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich")

from microgpt.support import signals

signals.leave_quietly()

from lab.export.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/export.py")
