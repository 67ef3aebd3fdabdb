"""Where downloads and compiled code are kept. Everything works without such a place, too."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """``MICROGPT_CACHE_DIR``, or this user's cache folder; it need not exist.

    None if there is neither: a user id without an entry and without ``HOME``, as in containers.
    """
    chosen = os.environ.get("MICROGPT_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_dir("microgpt", appauthor=False))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # older versions leave the "~"
