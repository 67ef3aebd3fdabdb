"""What all command lines share: flags that are also environment variables, and one-line errors."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NoReturn, TextIO, TypeVar

import click
from click.core import ParameterSource

from microgpt import __version__
from microgpt.protocol.schema import MAX_COUNT
from microgpt.support import environment, signals, startup, streams

PROGRAM = "microgpt-data-parallel"
MAX_SECONDS = 604_800  # a week: what is waited for longer is waited for in vain
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
TERMINATED = 143  # and after SIGTERM

_ERASED = "\r\x1b[J"  # on a terminal: the line of the cursor, and all below
_over_block = False

F = TypeVar("F", bound=Callable[..., Any])


class UserError(Exception):
    """The user can mend this; the message is one plain sentence saying what and how."""


def option(flag: str, *, aliases: Sequence[str] = (), **attributes: Any) -> Callable[[F], F]:
    """A click option ``--some-flag`` that ``MICROGPT_SOME_FLAG`` sets too, shown in ``--help``.

    ``aliases`` are further names of the variable, without the prefix.
    """
    names = (flag.partition("/")[0].removeprefix("--").replace("-", "_").upper(), *aliases)
    read = [f"{environment.PREFIX}{name}" for name in names]
    attributes.setdefault("show_default", True)
    return click.option(flag, envvar=read, show_envvar=True, **attributes)


class Whole(click.ParamType[int]):
    """A whole number from ``least`` to ``most``."""

    name = "integer"

    def __init__(self, least: int = 1, most: int = MAX_COUNT) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails with what a valid one is."""
        try:
            number = int(value)
        except ValueError:
            number = self._least - 1
        if not self._least <= number <= self._most:
            bounds = f"of at least {self._least}"
            if number > self._most or self._most < MAX_COUNT:
                bounds = f"from {self._least} to {self._most}"
            self.fail(f"{_shown(value)} is not a whole number {bounds}", param, ctx)
        return number

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What ``--help`` shows."""
        return f"INTEGER>={self._least}"


class Number(click.ParamType[float]):
    """A finite number from ``least`` to ``most``, or below ``most`` if that is ``open``."""

    name = "number"

    def __init__(
        self, least: float = -math.inf, most: float = math.inf, *, most_open: bool = False
    ) -> None:
        self._least, self._most, self._open = least, most, most_open

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; fails with what a valid one is."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        inside = (
            self._least <= number < self._most
            if self._open
            else (self._least <= number <= self._most)
        )
        if not inside or not math.isfinite(number):
            self.fail(f"{_shown(value)} is not {self._described()}", param, ctx)
        return number

    def _described(self) -> str:
        least, most = (f"{bound:g}" for bound in (self._least, self._most))
        if math.isinf(self._least) and math.isinf(self._most):
            return "a finite number"
        if math.isinf(self._most):
            return f"a finite number of at least {least}"
        return f"a number from {least} to {'below ' * self._open}{most}"


class Bytes(click.ParamType[int]):
    """A number of bytes, at least one: ``500MB``, ``1GiB``, or without a unit."""

    name = "size"
    UNITS: ClassVar[dict[str, int]] = {
        "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20,
        "GIB": 2**30,
    }  # fmt: skip

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails with what a valid one is."""
        found = re.fullmatch(r"(\d{1,15})\s?([a-zA-Z]*)", str(value), re.ASCII)
        size = int(found[1]) * self.UNITS.get(found[2].upper(), 0) if found else 0
        if not 1 <= size <= MAX_COUNT:
            self.fail(f"{_shown(value)} is no size, such as 500MB or 1GiB", param, ctx)
        return size


def _shown(value: object) -> str:
    """What the user has typed, in a length that a line has room for."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."


def given(context: click.Context) -> set[str]:
    """Names of the parameters that the user set, by flag or environment."""
    chosen = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {name for name in context.params if context.get_parameter_source(name) in chosen}


def run(command: click.Command, **extra: Any) -> NoReturn:
    """Run a command and exit; whatever the user did wrong is one line on stderr.

    Exit codes: 2 for wrong flags, 1 for everything else that is reported, 130 after Ctrl-C.
    """
    startup.is_over()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    streams.prepare()
    click.version_option(__version__, message=f"{PROGRAM} %(version)s")(command)
    try:
        check_text(variables_of(command))
        for line in environment.to_warn_of(variables_of(command)):
            say(f"warning: {line}", error=True)
        code = command.main(standalone_mode=False, **extra)
    except click.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        code = complain(error.format_message(), 2)
    except UserError as error:
        code = complain(str(error), 1)
    except OSError as error:  # of the output, such as a full disk; others are told where they arise
        code = complain(str(error), 1)
    except KeyboardInterrupt:
        code = INTERRUPTED
    signals.ignore()
    say("", end="")  # flushes
    sys.exit(code if isinstance(code, int) else 0)


def expect_block(there: bool) -> None:
    """Say whether there may be a block of lines on the terminal below the cursor.

    See ``coordinator.run.screen``: it will be drawn anew, and what is printed meanwhile erases it.
    """
    global _over_block
    _over_block = there and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def clear_block() -> None:
    """Take away what is left of a block whose process has been killed."""
    stream = next((stream for stream in (sys.stdout, sys.stderr) if stream.isatty()), None)
    if stream and _over_block:
        _put(_ERASED + "\x1b[?7h\x1b[?25h", stream, "")


def variables_of(command: click.Command) -> set[str]:
    """The environment variables that a command and its subcommands read."""
    names: set[str] = set()
    for parameter in command.params:
        read = parameter.envvar or ()
        names.update([read] if isinstance(read, str) else read)
    if isinstance(command, click.Group):
        names.update(*map(variables_of, command.commands.values()))
    return names


def check_text(names: Iterable[str]) -> None:
    """Raise UserError for arguments and variables that are no text: a record cannot hold them."""
    texts = [("argument", argument) for argument in sys.argv[1:]]
    texts += [(name, os.environ[name]) for name in sorted(names) if name in os.environ]
    for what, text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"{what} {text!r} is not UTF-8: use another name or path") from None


def say(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a line at once. Nobody there to read it (a closed pipe or terminal) is no error.

    What a terminal would obey is shown as an escape.
    """
    stream = sys.stderr if error else sys.stdout
    erased = _ERASED if _over_block and stream.isatty() else ""
    _put(erased + streams.visible(text, keep="\n\t"), stream, end)


def _put(text: str, stream: TextIO, end: str) -> None:
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError:
        # What is still buffered would be an error again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printable(text: str) -> str:
    """A stranger's or a file's text on one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def complain(text: str, code: int) -> int:
    """Print ``error: text`` as one line on stderr and return ``code``."""
    say("error: " + printable(text), error=True)
    return code
