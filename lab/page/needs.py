"""What the page needs beside what training needs. Imports none of it."""

from __future__ import annotations

from importlib.util import find_spec

from microgpt.support.cli import UserError

PACKAGES = ("starlette", "uvicorn", "sse_starlette", "prometheus_client", "bokeh")


def require(what: str) -> None:
    """Raise UserError, which says what to do, if a package is missing for ``what``."""
    missing = [name.replace("_", "-") for name in PACKAGES if find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UserError(f"{what} needs more packages, the extra 'page': pip install {names}")
