"""Imported first by every script: finds the project, and its virtual environment if need be.

So ``python scripts/sample.py FILE`` works from any folder and with any Python 3.11 or later, also
outside the environment that ``make`` has set up.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find_project(*needed: str) -> None:
    """Put the project on the path; start again in ``.venv`` if a ``needed`` package is missing."""
    sys.path.insert(0, str(ROOT))
    from microgpt.support import startup
    from microgpt.support.requirements import require

    startup.begins()
    require(*needed)
