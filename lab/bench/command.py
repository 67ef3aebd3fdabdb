"""Measure: ``python scripts/bench.py whole``, and parts of it by themselves."""

from __future__ import annotations

import click

from lab.bench.checkpoints import checkpoints
from lab.bench.coordination import coordination
from lab.bench.engine import engine
from lab.bench.events import events
from lab.bench.launchers import launchers
from lab.bench.page import page
from lab.bench.page_drawing import page_drawing
from lab.bench.scale.predicting import scale
from lab.bench.scale.scaling import scaling
from lab.bench.tree import tree
from lab.bench.whole import whole


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure how fast this project and its parts are on this machine."""


main.add_command(checkpoints)
main.add_command(coordination)
main.add_command(engine)
main.add_command(events)
main.add_command(launchers)
main.add_command(page)
main.add_command(page_drawing)
main.add_command(scale)
main.add_command(scaling)
main.add_command(tree)
main.add_command(whole)
