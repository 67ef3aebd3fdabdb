"""The chart library's JavaScript, as it lies in the installed package: nothing of it is copied."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from lab.page.plain_json import PlainResponse

PACKAGE, FILE = "bokeh", "server/static/js/bokeh.min.js"


@cache
def library() -> Path:
    """Where it is. The package is found without importing it, which would take half a second.

    Raises ImportError if it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (found := Path(folder, FILE)).is_file():
            return found
    raise ImportError(f"there is no {FILE} of {PACKAGE}")


async def charts(request: Request) -> Response:
    """``GET /charts.js``."""
    try:
        return FileResponse(library(), media_type="text/javascript")
    except ImportError as error:
        return PlainResponse({"error": str(error)}, 404)
