"""JSON documents of a study, which people copy and edit: sealed with a digest, read as if a stranger wrote them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preflab.core.errors import StoreError
from preflab.core.ids import content_id

_LARGEST_BYTES = 1 << 29
_SEAL = "sha256"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the SHA-256 of all the rest of it."""
    return {**document, _SEAL: content_id(document)}


def is_whole(document: Mapping[str, Any]) -> bool | None:
    """Return whether a document is as it was sealed; None where it never was."""
    if _SEAL not in document:
        return None
    try:
        return bool(document[_SEAL] == content_id({key: value for key, value in document.items() if key != _SEAL}))
    except (ValueError, RecursionError):  # numbers that no document of ours has; nested deeper than Python goes
        return False


def is_there(path: Path) -> bool:
    """Return whether something is at a path.

    Raises:
        StoreError: this user may not look.
    """
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error}); ask its owner for access.") from error


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object from a regular file.

    Raises:
        StoreError: it is not there, no regular file, too large, not whole JSON, or JSON of something else; the text
            names the file and the cause and leaves the remedy to the caller.
    """
    try:
        if not path.is_file():
            raise StoreError(f"{path}: is not there, or no file")
        if path.stat().st_size > _LARGEST_BYTES:
            raise StoreError(f"{path}: has {path.stat().st_size:,} bytes, more than any that preflab writes")
        text = path.read_text(encoding="utf-8")
        found = json.loads(text, parse_constant=_refuse)
        if _SURROGATE.search(text):
            # JSON can name half a character, which no file can hold; it becomes a question mark.
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: is not whole JSON ({error})") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path}: is not a JSON object")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
