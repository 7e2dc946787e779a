"""The cache folder: what is kept there can be computed again, and results never depend on it."""

import os
from pathlib import Path

import platformdirs


def folder() -> Path:
    """Where caches live: TLCLI_CACHE_DIR, else the user's cache folder."""
    return Path(os.environ.get("TLCLI_CACHE_DIR") or platformdirs.user_cache_dir("tlcli"))
