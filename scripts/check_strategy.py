"""Put a strategy, compressor, aggregation rule or optimizer through the laws that ours obey."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite", "rich", "zmq")

from lab.checking.command import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/check_strategy.py")
