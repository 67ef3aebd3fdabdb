"""microGPT on scalar autograd: the library. No sockets, no processes, no wall clock.

``train``, ``sample``, ``load_run`` and ``load_checkpoint`` are all that a notebook needs. They are
looked up on first use, so that importing a part of the library loads no more than that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microgpt.api import train
    from microgpt.checkpoint.format import load as load_checkpoint
    from microgpt.cluster import RunError
    from microgpt.result import TrainingResult, load_run, sample

__version__ = "0.1.0"  # pyproject.toml takes it from here
__all__ = ["RunError", "TrainingResult", "load_checkpoint", "load_run", "sample", "train"]


def __getattr__(name: str) -> Any:
    if name == "load_checkpoint":
        from microgpt.checkpoint.format import load

        return load
    if name in __all__:
        from microgpt import api, cluster

        if name == "RunError":
            return cluster.RunError

        return getattr(api, name)
    raise AttributeError(f"module 'microgpt' has no attribute {name!r}")
