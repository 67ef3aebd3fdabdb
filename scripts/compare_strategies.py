"""Compare ways to train at equal documents and at equal bytes."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "llvmlite")

from lab.comparing import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/compare_strategies.py")
