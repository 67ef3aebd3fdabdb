"""``python -m lab.export RUN``: as ``microgpt export``."""

from __future__ import annotations

from microgpt.support import signals, startup  # isort: skip  # before what takes time to import

signals.leave_quietly()
if __name__ == "__main__":
    startup.begins()

from lab.export.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python -m lab.export")
