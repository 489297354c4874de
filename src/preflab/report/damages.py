"""Files of a study that are not as they were written: read what can be read, and keep a list of the rest."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from preflab.core.errors import PreflabError, StoreError
from preflab.report.index import Damage
from preflab.store.artefacts import FORMAT, MANIFEST
from preflab.store.documents import read_document


@dataclass(frozen=True, slots=True)
class TableFile:
    """What a table of an artefact must be like.

    Args:
        name: of the file.
        lost: what the report lacks without it.
        numbers: columns of numbers that it must have.
        texts: columns of texts that it must have.
        optional: columns of texts that it may have.
    """

    name: str
    lost: str
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


@contextlib.contextmanager
def blaming(damages: Sequence[Damage], *, sealed: bool) -> Iterator[None]:
    """Say of a report that cannot be made that the study's files are to blame, where they may be.

    Args:
        damages: what is known to be damaged.
        sealed: whether damage of the index would be known.

    Raises:
        StoreError: the block raised anything, and the files may have caused it; an error of a whole study is a bug of
            ours and passes.
    """
    try:
        yield
    except PreflabError:
        raise
    except Exception as error:
        if sealed and not damages:
            raise
        where = damages[0].where if damages else "its index"
        raise StoreError(
            f"nothing can be shown of this study: {where} is not what preflab wrote, and leads to {error!r:.200}; run "
            "the study again, which writes its index anew and repeats what is damaged."
        ) from error


class Reader:
    """Reads tables of artefacts; never leaves the study's folder and keeps what is damaged.

    Args:
        study: folder of the study.
    """

    def __init__(self, study: Path) -> None:
        self.study = study
        self.damages: list[Damage] = []
        self._root = study.resolve()
        self._manifests: dict[str, Mapping[str, Any]] = {}

    def table(self, artefact: Any, file: TableFile, cell: str = "") -> pa.Table | None:
        """Return a table of an artefact; None where it has none, or only a damaged one.

        What is parsed is what was hashed: the bytes are read once.

        Args:
            artefact: its folder in the study, or None.
            file: which of its tables.
            cell: whose it is, for the list of damages.
        """
        if artefact is None:
            return None
        try:
            place = f"{artefact}/{file.name}"
            entry = self._files(artefact).get(file.name)
            if entry is None:
                if os.path.exists(self._inside(place)):
                    raise _Wrong("its manifest does not name it")
                return None
            return _parsed(self._bytes(place, entry), file)
        except _Wrong as error:
            self.damages.append(Damage(f"{artefact}/{file.name}", str(error), file.lost, cell))
            return None

    def _files(self, artefact: str) -> Mapping[str, Any]:
        """Return the files of an artefact as its manifest has them."""
        if artefact not in self._manifests:
            path = self._inside(f"{artefact}/{MANIFEST}")
            try:
                manifest = read_document(path)
            except StoreError as error:
                cause = str(error).removeprefix(f"{path}: ")
                raise _Wrong(f"the manifest of its folder {cause}") from error
            if manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
                raise _Wrong(f"the manifest of its folder is not of format {FORMAT}")
            self._manifests[artefact] = manifest["files"]
        return self._manifests[artefact]

    def _bytes(self, place: str, entry: Any) -> bytes:
        path = self._inside(place)
        try:
            if not path.is_file():
                raise _Wrong("is missing")
            data = path.read_bytes()
        except OSError as error:
            raise _Wrong(f"cannot be read ({error.strerror or error})") from error
        if not isinstance(entry, dict) or hashlib.sha256(data).hexdigest() != entry.get("sha256"):
            raise _Wrong("its content differs from its manifest")
        return data

    def _inside(self, place: str) -> Path:
        """Return a path of the study, whatever links or dots are in it, or say that it leads out."""
        try:
            path = (self.study / place).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, links in a circle
            raise _Wrong("its place is no path") from error
        if Path(place).is_absolute() or not path.is_relative_to(self._root):
            raise _Wrong("its place is outside of the study")
        return path


class _Wrong(Exception):
    """A file is not what it should be, in words."""


def _parsed(data: bytes, file: TableFile) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
        # What pandas wrote about itself is not needed, and it would be believed.
        table = table.select([name for name in table.column_names if not name.startswith("__index_level_")])
        kinds = {field.name: field.type for field in table.schema}
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise _Wrong(f"is no table ({str(error)[:200]})") from error
    if not kinds:
        return table  # what has no rows was written without columns
    for names, fits, what in (
        (file.numbers, _is_number, "numbers"),
        ((*file.texts, *(name for name in file.optional if name in kinds)), _is_text, "texts"),
    ):
        for name in names:
            if name not in kinds:
                raise _Wrong(f"has no column {name}")
            if not (fits(kinds[name]) or pa.types.is_null(kinds[name])):
                raise _Wrong(f"has other things than {what} in column {name}")
    return table.replace_schema_metadata(None)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
