"""Makes workers slow that leave the processor to others: they sleep for each document.

A process whose PYTHONPATH has this folder imports this before anything else. Once it has the scalar
engine, that waits ``SECONDS_PER_DOCUMENT`` (of the environment) for each document besides.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ENGINE = "microgpt.engine.scalar"
SECONDS = float(os.environ.get("SECONDS_PER_DOCUMENT", "0"))


class Slow:
    """Finds one module as others find it, and changes its class once it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """What an entry of ``sys.meta_path`` is asked."""
        if name != ENGINE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            slow_down(module.ScalarEngine)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def slow_down(engine: Any) -> None:
    """Let both computations of the engine take longer."""
    for name in ("gradients", "losses"):
        compute = getattr(engine, name)

        def slowly(self: Any, params: Any, documents: Sequence[Any], compute: Any = compute) -> Any:
            time.sleep(SECONDS * len(documents))
            return compute(self, params, documents)

        setattr(engine, name, slowly)


sys.meta_path.insert(0, Slow())
