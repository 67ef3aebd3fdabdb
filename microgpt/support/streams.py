"""Standard input, output and error: there whatever a shell has closed, and safe for a terminal."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

STANDARD = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare() -> None:
    """Open the null device in place of closed streams; letters that one lacks become escapes.

    Without that the next file or socket would get the number of a closed stream, here or in a
    child, and what is printed would go there.
    """
    for number, (name, mode) in enumerate(STANDARD):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def visible(text: str, keep: str = "") -> str:
    """A file's or a stranger's text, with escapes for what a terminal would obey.

    ``keep``: characters that stay as they are, such as line breaks.
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
