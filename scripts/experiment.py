"""Run an experiment: ``python scripts/experiment.py experiments/stragglers.toml``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "requests", "rich", "zmq")

from lab.experiments.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/experiment.py")
