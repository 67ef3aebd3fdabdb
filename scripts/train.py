"""Train on this machine: a coordinator and worker processes, started and looked after."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich", "zmq")

from microgpt.support import signals

signals.leave_quietly()

from lab.launch.train import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/train.py")
