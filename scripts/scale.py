"""Change the number of workers of a run that is under way."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich", "zmq")

from microgpt.support import signals

signals.leave_quietly()

from lab.launch.workers_command import scale
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(scale, prog_name="python scripts/scale.py")
