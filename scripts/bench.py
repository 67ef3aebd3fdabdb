"""Measure: ``python scripts/bench.py engine``, ``coordination`` or ``checkpoints``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "numba", "rich", "zmq")

import click
from bench_checkpoints import checkpoints
from bench_coordination import coordination
from bench_engine import engine

from microgpt import cli


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure how fast parts of this project are on this machine."""


main.add_command(checkpoints)
main.add_command(coordination)
main.add_command(engine)

if __name__ == "__main__":
    cli.run(main)
