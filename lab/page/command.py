"""``microgpt page``: shows a run in a browser, also one that is over or was trained elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lab.page.needs import require
from microgpt.support import cli
from microgpt.support.cli import UserError, say

HOST, PORT = "127.0.0.1", 8080
TOKEN = "MICROGPT_PAGE_TOKEN"  # noqa: S105  # the name of a variable
NICE = 10  # training comes first


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--host", default=HOST, show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=cli.Whole(0, 65535), default=None,
    help=f"Port to listen at, 0 for any that is free.  [default: {PORT}, or a free one]",
)  # fmt: skip
@click.option(
    "--linger", type=cli.Number(0.0), default=None,
    help="End so many seconds after the run, once nobody watches; RUN_DIR may still be missing.",
)  # fmt: skip
@click.option("--parent", type=int, default=0, hidden=True, help="End when this process ends.")
@click.option("--announce", type=int, default=None, hidden=True, help="Descriptor: we serve.")
@click.option("--control", type=int, default=None, hidden=True, help="Descriptor: the launcher.")
@click.option("--token", envvar=TOKEN, default="", hidden=True, help="Needed to control the run.")
def main(
    run_dir: Path,
    host: str,
    port: int | None,
    linger: float | None,
    parent: int,
    announce: int | None,
    control: int | None,
    token: str,
) -> None:
    """Serve a page that shows the run in RUN_DIR, live if it is going on."""
    if linger is None and not run_dir.is_dir():
        raise UserError(f"there is no folder {run_dir}: which run is to be shown?")
    require("the page")
    from lab.page import server
    from lab.page.control import make_control
    from lab.page.until import Until

    os.nice(NICE)
    with server.listen(host, PORT if port is None else port, exactly=port is not None) as socket:
        controlled = make_control(control, token, alone=server.is_loopback(socket))
        url = server.url_of(socket) + (f"?token={token}" if controlled and token else "")
        if announce is None:
            say(f"showing {run_dir} at {url} (Ctrl-C ends it)")
            if not server.is_loopback(socket):
                say("warning: whoever can reach this address can see the run", error=True)
        else:
            with open(announce, "w") as pipe:
                print(url, file=pipe)
        server.serve(run_dir, socket, host, Until(parent, linger), controlled)
