"""Look into checkpoints: ``python scripts/checkpoint.py show FILE``; ``--help`` tells more."""

from __future__ import annotations

import argparse

from lab.checkpoint_tools import compare, convert, look, remote
from lab.remote.fetch import is_address
from lab.terminal import VERSION, UserError, complain
from microgpt.checkpoint.export import FORMATS
from microgpt.checkpoint.format import CheckpointError
from microgpt.support.invocation import call_of

WHICH = "a file, or a run directory for its newest one"


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: 1 with one line on stderr for whatever is wrong."""
    options = parse(arguments)
    try:
        code: int = options.run(options)
    except (CheckpointError, UserError) as error:
        return complain(str(error))
    return code


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; ``run`` is the subcommand's function."""
    description = f"Look into checkpoints: {call_of('checkpoint')} show FILE"
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    show = commands.add_parser("show", help="print what a checkpoint holds")
    show.add_argument("file", help=WHICH)
    show.set_defaults(run=look.show)

    listing = commands.add_parser("list", help="print the checkpoints of a run")
    listing.add_argument(
        "directory", help="such as runs/latest, or the address of a coordinator: tcp://HOST:5555"
    )
    listing.set_defaults(run=list_)

    get = commands.add_parser("get", help="fetch a checkpoint from a coordinator that trains")
    get.add_argument("address", help="such as tcp://HOST:5555")
    get.add_argument("--step", type=int, help="which one (default: the newest)")
    get.set_defaults(run=remote.get)

    verify = commands.add_parser("verify", help="tell whether files are good checkpoints")
    verify.add_argument("files", nargs="+", metavar="file", help="a file, or a run directory")
    verify.set_defaults(run=look.verify)

    diff = commands.add_parser("diff", help="print which tensors moved, and how far")
    diff.add_argument("before", help=WHICH)
    diff.add_argument("after", help=WHICH)
    diff.set_defaults(run=compare.diff)

    export = commands.add_parser("export", help="write a checkpoint in another format")
    export.add_argument("file", help=WHICH)
    export.add_argument("--format", choices=FORMATS, required=True)
    export.set_defaults(run=convert.export)

    importing = commands.add_parser("import", help="make a checkpoint of an exported one")
    importing.add_argument("source", help="what export has written: a file, or a folder")
    importing.set_defaults(run=convert.import_)

    for command in (listing, get):
        command.add_argument(
            "--curve", metavar="DIR", help="the folder of keys, if the coordinator has one"
        )
    for command in (export, importing, get):
        command.add_argument(
            "-o",
            "--output",
            required=command is not get,
            metavar="PATH",
            help="where to write" + (" (default: step-<number>.msgpack)" * (command is get)),
        )
        command.add_argument("--force", action="store_true", help="write over what is there")
    for command in (show, listing, verify, diff):
        command.add_argument("--json", action="store_true", help="as JSON")
    return parser.parse_args(arguments)


def list_(options: argparse.Namespace) -> int:
    """Print the checkpoints of a run, from its files or from its coordinator."""
    if is_address(options.directory):
        return remote.list_remote(options)
    if options.curve is not None:
        raise UserError("--curve is for the address of a coordinator")
    return look.list_directory(options)
