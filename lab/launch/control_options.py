"""The flags with which a page may do something to its run, and what the page gets for that."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

from lab.launch.supervisor import Supervisor
from lab.page.command import TOKEN
from microgpt.support.cli import UserError, option

AUTO = "auto"
LONG_WORD = re.compile(r"[\w-]{16,200}", re.ASCII)

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    option(
        "--control/--no-control", default=False, show_default=False,
        help="The page may also pause the run, kill, freeze and slow down workers, and more.",
    ),
    option(
        "--page-token", default="", show_default=False,
        help="A word of at least 16 letters that whoever controls the run must know, auto for a "
        "random one. Needed with --control where others can reach the page.",
    ),
)  # fmt: skip


class Given(NamedTuple):
    """``flags`` of the page's process, descriptors that are ``passed`` to it, and ``variables``.

    ``begin`` is to be called when it has them.
    """

    flags: list[str]
    passed: tuple[int, ...]
    variables: dict[str, str]
    begin: Callable[[], None]


def control_options(command: F) -> F:
    """Add the flags of control."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def check_control(flags: Mapping[str, Any]) -> None:
    """Raise UserError for flags of control that do not go together."""
    token = flags["page_token"]
    if flags["control"] and not flags["page"]:
        raise UserError("--control needs --page: it is the page that has the buttons")
    if token and not flags["control"]:
        raise UserError("--page-token is for --control: everybody may look at the page")
    if token and token != AUTO and not LONG_WORD.fullmatch(token):
        raise UserError("--page-token has at least 16 letters or digits (or - and _), or is auto")
    if flags["control"] and not token and not is_loopback(flags["page_host"]):
        raise UserError(
            f"--control at {flags['page_host']}, where others can reach the page, needs "
            "--page-token: a word of your own, or auto"
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a page there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def given_to_page(flags: Mapping[str, Any], supervisor: Supervisor) -> Iterator[Given]:
    """What the page gets so that it can ask for things, as long as the run goes on."""
    if not flags["control"]:
        yield Given([], (), {}, lambda: None)
        return
    token = flags["page_token"]
    variables = {TOKEN: secrets.token_urlsafe(24) if token == AUTO else token}
    with closing(supervisor.channel()) as channel:
        theirs = channel.theirs.fileno()
        yield Given(["--control", str(theirs)], (theirs,), variables, channel.begin)
