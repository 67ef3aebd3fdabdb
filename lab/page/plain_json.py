"""JSON that every reader takes: no numbers that JSON does not have, and ASCII alone."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import JSONResponse

SHORT = (",", ":")


def compact(value: Any) -> str:
    """One line of JSON, in which null stands for numbers that are not finite."""
    try:
        return json.dumps(value, separators=SHORT, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), separators=SHORT, allow_nan=False)


class PlainResponse(JSONResponse):
    """A response of JSON; half a surrogate pair, in a folder's name say, is escaped."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return compact(content).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return [*map(_finite, value)] if isinstance(value, list | tuple) else value
