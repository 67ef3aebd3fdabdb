"""The flags that make life hard for a run, for whoever starts one: real or simulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from lab.condition_texts import ConditionError, read_conditions, with_policy
from lab.conditions import Conditions, OnFailure
from microgpt.support.cli import UserError, option

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    option(
        "--link", multiple=True, metavar="[worker=N:]CONDITION", show_default=False,
        help="Between workers and coordinator, each way: latency=20ms,jitter=5ms,"
        "bandwidth=10Mbit,loss=0.1%. May be given several times, as the next three.",
    ),
    option(
        "--slow", multiple=True, metavar="[worker=N:]FACTOR", show_default=False,
        help="Workers take several times as long: 3x.",
    ),
    option(
        "--fail", multiple=True, metavar="[worker=N:]TIMES", show_default=False,
        help="Workers are killed now and then, and come back: mtbf=30s,mttr=5s.",
    ),
    option(
        "--byzantine", multiple=True, metavar="[worker=N:]LIE", show_default=False,
        help="Workers send lies: sign-flip, noise, alie or ipm. See --aggregate.",
    ),
    option(
        "--on-failure", type=click.Choice([*map(str, OnFailure)]), default=str(OnFailure.REPLACE),
        help="When a process has died: replace it; restart all from the last checkpoint, once it "
        "is back; or elastic: restart the others from there at once, and it joins them later.",
    ),
)  # fmt: skip


def condition_options(command: F) -> F:
    """Add the flags of conditions."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def read(flags: Mapping[str, Any]) -> Conditions:
    """The conditions that the flags describe. Raises UserError."""
    given = {name: flags[name] for name in ("link", "slow", "fail", "byzantine")}
    try:
        return with_policy(read_conditions(flags["workers"], **given), flags["on_failure"])
    except ConditionError as error:
        raise UserError(str(error)) from error
