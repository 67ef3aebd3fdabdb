"""The flags of a run's page, and the page as a companion of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from coordinator.run.directory_owner import OwnedRunDir
from lab.launch.companion import Companion
from lab.launch.control_options import check_control, control_options, given_to_page, is_loopback
from lab.launch.supervisor import Supervisor
from lab.page.command import HOST, PORT
from lab.page.needs import require
from microgpt.support import cli
from microgpt.support.cli import option, say

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    option(
        "--page/--no-page", default=False, show_default=False,
        help="Show the run in a browser, live; with --events full, unless you give another level.",
    ),
    option("--page-host", default=HOST, help="Address at which the page is served."),
    option(
        "--page-port", type=cli.Whole(0, 65535), default=None,
        help="Port of the page, 0 for any that is free.",
        show_default=f"{PORT}, or a free one",
    ),
)  # fmt: skip


def page_options(command: F) -> F:
    """Add the flags of the page."""
    command = control_options(command)
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def events_flags(flags: Mapping[str, Any], given: set[str], exported: bool) -> list[str]:
    """What the coordinator is told, so that page and exports have something to show.

    Raises UserError.
    """
    check_control(flags)
    if flags["page"]:
        require("--page")
    if "events" in given or not (flags["page"] or exported):
        return []
    return ["--events", "full" if flags["page"] else "rounds"]


@contextmanager
def page_of(
    flags: Mapping[str, Any], directory: OwnedRunDir, supervisor: Supervisor
) -> Iterator[None]:
    """The page of the run in the directory, as long as the run goes on."""

    def told(url: str) -> None:
        say(f"page: {url}")
        if not is_loopback(flags["page_host"]):
            say("warning: whoever can reach that address can see the run", error=True)

    port = flags["page_port"]
    more = [] if port is None else ["--port", str(port)]
    with given_to_page(flags, supervisor) as given:
        words = [str(directory.path), "--host", flags["page_host"], *more, *given.flags]
        with Companion(
            "page", "lab.page", words, directory, told,
            passed=given.passed, variables=given.variables,
        ):  # fmt: skip
            given.begin()
            yield
