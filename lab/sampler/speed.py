"""Who computes the probabilities: plain Python, or the tape engine where it is worth its start."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from lab.terminal import UserError
from microgpt.checkpoint.format import Checkpoint
from microgpt.parameters import StateDict
from microgpt.sampling import Extend, plain

#: Samples times weights from which the tape engine is done earlier, start included: some hundred
#: names of the usual model; with kernels that must be compiled first, three hundred.
WORTH_LOADING, WORTH_COMPILING = 400_000, 1_200_000
PACKAGES = ("llvmlite", "numpy", "platformdirs")


def choose(
    engine: str, loaded: Checkpoint, params: StateDict, num_samples: int
) -> tuple[Extend, str]:
    """The forward pass, and its engine's name: tape or plain. Both give the same bits.

    Raises UserError if the tape engine is asked for and cannot be had.
    """
    work = num_samples * loaded.num_params
    if engine == "tape" or (engine == "auto" and work >= WORTH_LOADING and _is_installed()):
        try:
            from microgpt.engine import forward
            from microgpt.numerics.vectors import vector_from_bytes
        except ImportError as error:
            if engine == "tape":
                raise UserError(
                    f"the tape engine needs {error.name}: pip install {error.name}"
                ) from error
        else:
            if engine == "tape" or work >= WORTH_COMPILING or not forward.must_compile():
                weights = vector_from_bytes(loaded.weights)
                return forward.compiled(weights, loaded.training.model, _report), "tape"
    return plain(params, loaded.training.model), "plain"


def _is_installed() -> bool:
    return all(find_spec(package) is not None for package in PACKAGES)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
