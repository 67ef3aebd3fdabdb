"""What all command lines share: flags that are also environment variables, and one-line errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

ENV_PREFIX = "MICROGPT"
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
TERMINATED = 143  # and after SIGTERM

F = TypeVar("F", bound=Callable[..., Any])


class UserError(Exception):
    """The user can mend this; the message is one plain sentence saying what and how."""


def option(flag: str, *, aliases: Sequence[str] = (), **attributes: Any) -> Callable[[F], F]:
    """A click option ``--some-flag`` that ``MICROGPT_SOME_FLAG`` sets too, shown in ``--help``.

    ``aliases`` are further names of the variable, without the prefix.
    """
    names = (flag.removeprefix("--").replace("-", "_").upper(), *aliases)
    variables = [f"{ENV_PREFIX}_{name}" for name in names]
    attributes.setdefault("show_default", True)
    return click.option(flag, envvar=variables, show_envvar=True, **attributes)


def given(context: click.Context) -> set[str]:
    """Names of the parameters that the user set, by flag or environment."""
    chosen = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {name for name in context.params if context.get_parameter_source(name) in chosen}


def run(command: click.Command, **extra: Any) -> None:
    """Run a command and exit; whatever the user did wrong is one line on stderr.

    Exit codes: 2 for wrong flags, 1 for everything else that is reported, 130 after Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = command.main(standalone_mode=False, **extra)
    except click.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        code = complain(error.format_message(), 2)
    except UserError as error:
        code = complain(str(error), 1)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def complain(text: str, code: int) -> int:
    """Print ``error: text`` as one line on stderr and return ``code``."""
    print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
    return code
