"""The folder outside the studies that all of them share."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder shared by all studies: `$PREFLAB_CACHE`, or `~/.cache/preflab`."""
    return Path(os.environ.get("PREFLAB_CACHE") or Path.home() / ".cache" / "preflab")
