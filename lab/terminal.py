"""What the scripts that need nothing but msgpack have in common: output, errors and endings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any, NoReturn

from microgpt import __version__
from microgpt.support import environment, signals, startup
from microgpt.support.streams import visible as visible

VERSION = f"microgpt-data-parallel {__version__}"
FAILED = 1
INTERRUPTED = 130  # as shells have it


class UserError(Exception):
    """The user can mend this; the message is one plain sentence saying what and how."""


def run(main: Callable[[], int]) -> NoReturn:
    """Run the program and exit. A reader of our output that leaves, and Ctrl-C, are quiet."""
    startup.is_over()
    signals.answer_as_usual()
    if sys.stderr is None:  # closed; what is said there must not go to the output instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # until the end
    if sys.stdout is None:
        sys.exit(complain("the output cannot be written: it is closed"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an alphabet that a terminal lacks
    for line in environment.to_warn_of():
        warn(line)
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = _forget_output()
    except OSError as error:  # files are dealt with where they are used: this is the output
        code = complain(f"the output cannot be written: {error.strerror}")
        _forget_output()
    sys.exit(code)


def complain(text: str) -> int:
    """Print ``error: text`` as one line on stderr; returns the exit code of a failure."""
    print(f"error: {' '.join(visible(text).split())}", file=sys.stderr, flush=True)
    return FAILED


def warn(text: str) -> None:
    """Print ``warning: text`` as one line on stderr."""
    print(f"warning: {' '.join(visible(text).split())}", file=sys.stderr, flush=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in letters that the output can carry."""
    readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, indent=indent, ensure_ascii=not readable)


def _forget_output() -> int:
    # What is still buffered would be an error again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
