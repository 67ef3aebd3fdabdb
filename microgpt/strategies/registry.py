"""Strategies by name, or from a user's file; their options checked against their fields."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.sync import Sync

#: The strategies of this package, by the name for ``--strategy``.
STRATEGIES: dict[str, type[Strategy]] = {"sync": Sync}
DEFAULT = "sync"

_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def load_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy ``name`` (see ``STRATEGIES``, or ``FILE.py:Class``) with these options.

    Options are texts as a command line has them, or values of their fields' types. A user's file is
    run as the program that it is. Raises StrategyError.
    """
    kind = from_file(name) if ":" in name else STRATEGIES.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, STRATEGIES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(STRATEGIES)}"
        raise StrategyError(f"there is no strategy {name!r}: {hint} (or FILE.py:Class)")
    if not dataclasses.is_dataclass(kind):
        raise StrategyError(f"strategy {name}: its class must be a dataclass (@dataclass)")
    values = {key: _value(name, kind, key, given) for key, given in (options or {}).items()}
    try:
        made: Strategy = kind(**values)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"strategy {name}: {error}") from error
    for method in ("open", "enough", "update", "promise"):
        if not hasattr(made, method):
            raise StrategyError(f"strategy {name} has no {method!r}")
    return made


def options_of(strategy: Strategy) -> dict[str, Any]:
    """All options of a strategy with their values, for records and checkpoints."""
    return dataclasses.asdict(strategy)  # type: ignore[call-overload, no-any-return]  # checked


def name_of(strategy: Strategy) -> str:
    """The name by which ``load_strategy`` finds the class again, in whichever folder it is called.

    A class that stands in no file (but in a notebook's cell, say) will not be found.
    """
    kind = type(strategy)
    for name, known in STRATEGIES.items():
        if kind is known:
            return name
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"{Path(file).resolve() if file else kind.__module__}:{kind.__qualname__}"


def parse_options(texts: tuple[str, ...]) -> dict[str, str]:
    """``("bound=4",)`` as ``{"bound": "4"}``. Raises StrategyError for anything else."""
    parsed = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise StrategyError(f"--strategy-option {text!r} is not of the form KEY=VALUE")
        parsed[key] = value
    return parsed


def _value(name: str, kind: type[Any], key: str, given: Any) -> Any:
    """An option's value in the type of its field."""
    fields = [field.name for field in dataclasses.fields(kind)]
    if key not in fields:
        near = difflib.get_close_matches(key, fields, 1)
        known = f"its options are {', '.join(fields)}" if fields else "it has no options"
        hint = f"did you mean {near[0]}?" if near else known
        raise StrategyError(f"strategy {name} has no option {key!r}: {hint}")
    wanted = get_type_hints(kind).get(key)
    if type(given) is wanted:
        return given
    try:
        if wanted is bool:
            return _BOOLEANS[str(given).lower()]
        if wanted in (int, float, str):
            return wanted(given)
    except (ValueError, KeyError, TypeError):
        pass
    wants = getattr(wanted, "__name__", wanted)
    raise StrategyError(f"strategy {name}: option {key} wants a {wants}, not {given!r}")


def from_file(spec: str) -> type[Strategy]:
    """The class in ``FILE.py:Class``, whose file is run. Raises StrategyError."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise StrategyError(f"--strategy {spec}: there is no file {file!r}")
    module_name = "microgpt_strategy_" + hashlib.sha256(bytes(path.resolve())).hexdigest()
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise StrategyError(f"--strategy {spec}: {file!r} is no Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    try:
        module_spec.loader.exec_module(module)
    except SyntaxError as error:
        raise StrategyError(f"{file}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise StrategyError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    kind = getattr(module, name, None)
    if not isinstance(kind, type):
        raise StrategyError(f"{file} has no class {name!r}")
    return kind
