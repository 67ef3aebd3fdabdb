"""The workers of a run that is under way: list, logs, scale, stop."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich", "zmq")

from microgpt.support import signals

signals.leave_quietly()

from lab.launch.workers_command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/workers.py")
