"""What exports need beside what training needs. Imports none of it."""

from __future__ import annotations

from importlib.util import find_spec

from microgpt.support.cli import UserError

#: Flags, and what each imports.
LIBRARIES = {"tensorboard": "tensorboardX", "trackio": "trackio", "wandb": "wandb"}
AUTO = "auto"  # the folder for TensorBoard's files: in the run directory
PROJECT = "microgpt"  # that is logged to if none is named


def require(flag: str) -> None:
    """Raise UserError, which says what to do, if the library for a flag is missing."""
    library = LIBRARIES[flag]
    if find_spec(library) is None:
        raise UserError(f"--{flag} needs {library}: pip install {library}")
