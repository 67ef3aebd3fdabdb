"""The flags that hand a run to other programs while it goes on, and who does it as a companion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from coordinator.run.directory_owner import OwnedRunDir
from lab.export.needs import AUTO, LIBRARIES, PROJECT, require
from lab.launch.companion import Companion
from microgpt.support.cli import option

F = TypeVar("F", bound=Callable[..., Any])

END_SECONDS = 20.0  # for what is still to be sent when the run is over

_OPTIONS = (
    option(
        "--tensorboard", metavar="[DIR]", default=None, is_flag=False, flag_value=AUTO,
        help="Write files for TensorBoard meanwhile, into DIR/NAME-OF-THE-RUN; without DIR into "
        "the run directory. This and the next two mean --events rounds, unless you say otherwise.",
    ),
    option(
        "--trackio", metavar="[PROJECT]", default=None, is_flag=False, flag_value=PROJECT,
        help=f"Log to a project of trackio meanwhile, {PROJECT} if none is named.",
    ),
    option(
        "--wandb", metavar="[PROJECT]", default=None, is_flag=False, flag_value=PROJECT,
        help="Log to a project of wandb, likewise.",
    ),
)  # fmt: skip


def export_options(command: F) -> F:
    """Add the flags."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def exports(flags: Mapping[str, Any]) -> list[str]:
    """The flags of ``microgpt export`` that are given. Raises UserError if a library is missing."""
    given = [name for name in LIBRARIES if flags[name] is not None]
    for name in given:
        require(name)
    return [word for name in given for word in (f"--{name}", flags[name])]


def export_of(words: list[str], directory: OwnedRunDir) -> Companion:
    """Who exports the run in the directory, not yet begun. ``words``: see ``exports``."""
    every = [str(directory.path), "--follow", *words]
    return Companion("export", "lab.export", every, directory, seconds=END_SECONDS)
