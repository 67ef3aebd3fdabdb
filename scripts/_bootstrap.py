"""Imported first by every script: finds the project, and its virtual environment if need be.

So ``python scripts/sample.py FILE`` works from any folder and with any Python 3.11 or later, also
outside the environment that ``make`` has set up.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find_project(*needed: str) -> None:
    """Put the project on the path; start again in ``.venv`` if a ``needed`` package is missing."""
    if sys.version_info < (3, 11):  # noqa: UP036  # run by whatever Python is there
        sys.exit("error: this program needs Python 3.11 or later")
    sys.path.insert(0, str(ROOT))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if not missing:
        return
    python = ROOT / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(python, [str(python), *sys.argv])  # noqa: S606  # our own environment
    names = ", ".join(missing)
    sys.exit(f"error: this script needs {names}: run 'make setup', or pip install {names}")
