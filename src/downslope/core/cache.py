"""The folder for what can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$DOWNSLOPE_CACHE``, else ``$XDG_CACHE_HOME/downslope``, else ``~/.cache/downslope``."""
    own = os.environ.get("DOWNSLOPE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "downslope"
