"""Measure: ``python scripts/bench.py engine``, ``coordination`` or ``checkpoints``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "numba", "rich", "zmq")

import click

from lab.bench.checkpoints import checkpoints
from lab.bench.coordination import coordination
from lab.bench.engine import engine
from microgpt.support import cli


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure how fast parts of this project are on this machine."""


main.add_command(checkpoints)
main.add_command(coordination)
main.add_command(engine)

if __name__ == "__main__":
    cli.run(main)
