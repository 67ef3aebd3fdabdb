"""Starts the project's programs isolated from the folder in which the user happens to be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

#: As ``python -m`` does it, but with the project on the path instead of the current folder, whose
#: files may have the names of modules. PYTHONPATH cannot say it if there is a colon in the path.
PROGRAM = (
    "import runpy, sys; sys.path.insert(0, sys.argv[1]); del sys.argv[:2]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def isolated(root: Path, module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of the project at ``root`` with these arguments."""
    return [sys.executable, "-P", "-c", PROGRAM, str(root), module, *arguments]
