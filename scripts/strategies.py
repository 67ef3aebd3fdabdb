"""List strategies, compressors, aggregation rules and optimizers with their options."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "msgpack", "numpy")

from lab.listing import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/strategies.py")
