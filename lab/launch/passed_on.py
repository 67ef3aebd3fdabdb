"""Flags of our own command line, for a program that is started with the same ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import click

from coordinator.run.options import OPTIONS


def coordinators() -> list[click.Parameter]:
    """The parameters of a coordinator."""
    command: Any = lambda: None  # noqa: E731  # something to hang the options on
    for add in OPTIONS:
        command = add(command)
    return list(command.__click_params__)


def passed_on(
    context: click.Context, parameters: Iterable[click.Parameter], without: Collection[str]
) -> list[str]:
    """Those that were given on our command line, but ``without`` some; variables others see too."""
    arguments: list[str] = []
    for parameter in parameters:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in without or source is not click.core.ParameterSource.COMMANDLINE:
            continue
        arguments += _words(parameter, context.params[name])
    return arguments


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    flag = parameter.opts[0]
    if parameter.multiple:
        return [word for each in value for word in (flag, str(each))]
    if getattr(parameter, "is_flag", False):
        return [flag] if value else parameter.secondary_opts[:1]
    return [flag, "auto" if value is None else str(value)]
