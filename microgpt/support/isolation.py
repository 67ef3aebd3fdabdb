"""Starts the project's programs isolated from the folder in which the user happens to be."""

from __future__ import annotations

import sys

from microgpt.support.invocation import ROOT, passed_on

#: As ``python -m`` does it, but with the project on the path instead of the current folder, whose
#: files may have the names of modules. PYTHONPATH cannot say it if there is a colon in the path.
PROGRAM = (
    "import runpy, sys; sys.path.insert(0, sys.argv[1]); del sys.argv[:2]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def isolated(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of the project with these arguments."""
    python = [sys.executable, "-P", *passed_on()]
    return [*python, "-c", PROGRAM, str(ROOT), module, *arguments]
