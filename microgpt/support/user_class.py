"""A class of a user's own, in ``FILE.py:Class``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def class_in_file(label: str, spec: str, error: type[Exception]) -> type[Any]:
    """The class in ``FILE.py:Class``, whose file is run as the program that it is.

    ``label`` is the word for what the class should be. Raises ``error`` with one sentence.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise error(f"{label} {spec}: there is no file {file!r}")
    module_name = "microgpt_user_" + hashlib.sha256(bytes(path.resolve())).hexdigest()
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
        raise error(f"{file} cannot be run: {type(wrong).__name__}: {wrong}") from wrong
    kind = getattr(module, name, None)
    if not isinstance(kind, type):
        raise error(f"{file} has no class {name!r}")
    return kind
