"""Look into checkpoints: ``python scripts/checkpoint.py show FILE``; ``--help`` tells more."""

from __future__ import annotations

from _bootstrap import find_project

find_project("msgpack")

from microgpt.support import signals

signals.leave_quietly()

from lab.checkpoint_tools.command import main
from lab.terminal import run

if __name__ == "__main__":
    run(main)
