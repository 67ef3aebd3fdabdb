"""Train through faults with real processes, and end with the bits of a quiet run."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich", "zmq")

from lab.faults.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/chaos.py")
