"""Lay a document open: ``python scripts/anatomy.py runs/latest emma``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("msgpack")

from microgpt.support import signals

signals.leave_quietly()

from lab.anatomy import main
from lab.terminal import run

if __name__ == "__main__":
    run(main)
