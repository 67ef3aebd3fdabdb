"""Measure: ``python scripts/bench.py whole``, ``engine`` and others; ``--help`` lists them."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "rich", "zmq")

from lab.bench.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/bench.py")
