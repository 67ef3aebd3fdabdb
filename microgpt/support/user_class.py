"""A class of a user's own, in ``FILE.py:Class``: found, run, and blamed for what it raises."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MODULE = "microgpt_user_"


class OwnCodeError(Exception):
    """Code of a user's own fails, or gives what it must not: one sentence, with its line."""


def class_in_file(label: str, spec: str, error: type[Exception]) -> type[Any]:
    """The class in ``FILE.py:Class``, whose file is run as the program that it is.

    ``label`` is the word for what the class should be. Raises ``error`` with one sentence.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise error(f"{label} {spec}: there is no file {file!r}")
    module_name = _MODULE + hashlib.sha256(bytes(path.resolve())).hexdigest()
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise error(f"{label} {spec}: {file!r} is no Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    try:
        module_spec.loader.exec_module(module)
    except SyntaxError as wrong:
        raise error(f"{file}, line {wrong.lineno}: {wrong.msg}") from wrong
    except Exception as wrong:
        text = f"{type(wrong).__name__}: {wrong}{line_of(wrong, module_name)}"
        raise error(f"{file} cannot be run: {text}") from wrong
    kind = getattr(module, name, None)
    if not isinstance(kind, type):
        raise error(f"{file} has no class {name!r}")
    return kind


def absolute(spec: str) -> str:
    """``FILE.py:Class[:OPTIONS]`` with the file's whole path; any other text as it is."""
    file, colon, rest = spec.partition(".py:")
    return f"{Path(file + '.py').resolve()}:{rest}" if colon else spec


def line_of(error: BaseException, module: str, otherwise: object = None) -> str:
    """Where in a module an error arose, as ``" (line 14 of mine.py)"``; "" if nobody knows.

    That is the innermost line of this module, else where the function ``otherwise`` is defined
    (which was called with arguments that it does not take), else the innermost line of all.
    """
    trace, found, last = error.__traceback__, "", ""
    while trace is not None:
        code = trace.tb_frame.f_code
        last = _line(trace.tb_lineno, code.co_filename)
        if trace.tb_frame.f_globals.get("__name__") == module:
            found = last
        trace = trace.tb_next
    made = getattr(otherwise, "__code__", None)
    defined = _line(made.co_firstlineno, made.co_filename) if made is not None else ""
    return found or defined or last


def _line(number: int, file: str) -> str:
    return f" (line {number} of {Path(file).name})"


def line_in(instance: object, method: str, error: BaseException) -> str:
    """Where in the module of an instance's class an error arose that a method raised."""
    kind = type(instance)
    return line_of(error, kind.__module__, getattr(kind, method, None))


@contextmanager
def blamed(
    label: str, instance: object, method: str, *passes: type[BaseException]
) -> Iterator[None]:
    """What is raised in here, ``passes`` excepted, becomes an OwnCodeError of one sentence.

    ``label`` is the word for what the instance is: ``"compressor"``.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, (OwnCodeError, *passes)):
            raise
        text = f"{type(error).__name__}: {error}{line_in(instance, method, error)}"
        who = f"{label} {type(instance).__name__}"
        raise OwnCodeError(f"{who}: {method} raises {text}") from error
