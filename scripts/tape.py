"""Look at the tape: ``python scripts/tape.py show --length 5``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("click", "numpy")

from lab.tape import main
from microgpt.support import cli

if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/tape.py")
