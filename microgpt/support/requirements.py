"""Finds the packages that a program needs: here, or in the virtual environment of the project.

Runs with any Python 3 and nothing installed, so that it can say what is missing.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from microgpt.support.invocation import ROOT, in_clone


def require(*packages: str) -> None:
    """Start the program again in ``.venv`` if a package is missing; end it if that cannot help."""
    if sys.version_info < (3, 11):  # noqa: UP036  # run by whatever Python is there
        sys.exit("error: this program needs Python 3.11 or later")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    python = ROOT / ".venv" / "bin" / "python"
    inside = Path(sys.prefix).resolve() == (ROOT / ".venv").resolve()
    if python.exists() and not inside and sys.executable != str(python):  # -S knows no prefix
        os.execv(python, [str(python), *sys.orig_argv[1:]])  # noqa: S606  # our own environment
    names = ", ".join(missing)
    setup = "run 'make setup', or " if in_clone() else ""
    sys.exit(f"error: this program needs {names}: {setup}pip install {names}")
