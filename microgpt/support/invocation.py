"""How the user starts our programs: as ``microgpt train``, or in a clone as a script.

Messages that tell what to type next name the programs in the way the user has chosen. Imports
nothing but the standard library.
"""

from __future__ import annotations

import sys
from pathlib import Path

COMMAND = "microgpt"  # what an installation puts on the path
#: The folder that holds the packages: the project's, or that of installed packages.
ROOT = Path(__file__).resolve().parents[2]


def spelled(program: str, by_command: bool) -> str:
    """What people type for a program such as ``train``."""
    return f"{COMMAND} {program}" if by_command else f"python scripts/{program}.py"


def call_of(program: str) -> str:
    """What the user of this process types for one of our programs."""
    return spelled(program, by_command() or not in_clone())


def by_command(argv0: str | None = None) -> bool:
    """Whether this process, or the one that started it, was called as ``microgpt PROGRAM``.

    ``argv0``: how the process was called, if not as ``sys.argv`` tells.
    """
    called = (sys.argv or [""])[0] if argv0 is None else argv0
    return called.startswith(f"{COMMAND} ") or COMMAND in sys._xoptions


def in_clone() -> bool:
    """Whether this code runs in a clone, where the scripts are."""
    return (ROOT / "scripts" / "_bootstrap.py").is_file()


def passed_on() -> list[str]:
    """Flags of Python that tell a child of ours how its user calls the programs."""
    return ["-X", COMMAND] if by_command() else []
