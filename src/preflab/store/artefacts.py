"""Artefacts: folders with a manifest written last, never changed afterwards.

Commit protocol: everything is written into a temporary folder on the same filesystem and fsynced, then the manifest
with the SHA-256 of every file, then one rename. A folder without a valid manifest does not exist for preflab.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError, StoreError
from preflab.core.ids import content_id, file_digest

FORMAT = 1
MANIFEST = "manifest.json"
_SHORT = 20
_LEFTOVER_S = 3600.0


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What a stage is made from; its id is the hash of all of it.

    Args:
        stage: kind of stage, which is also the folder's name.
        version: version of the stage's code; raised when its results change.
        params: the parameters that matter to the result, JSON-like.
        inputs: role to id of the artefacts (or digests of the files) it reads.
        numeric: device type, dtype, threads and token budgets: what changes the last digits.
    """

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    numeric: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form that the id is computed from."""
        return {
            "stage": self.stage,
            "version": self.version,
            "params": dict(self.params),
            "inputs": dict(self.inputs),
            "numeric": dict(self.numeric),
        }

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON form."""
        return content_id(self.as_json())


@dataclass(frozen=True, slots=True)
class Artefact:
    """A committed folder: `path`, its `spec` as JSON and the `info` its stage left (small JSON)."""

    path: Path
    spec: Mapping[str, Any]
    info: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Return the path of one of its files.

        Raises:
            StoreError: the artefact has no such file.
        """
        path = self.path / name
        if not path.exists():
            raise StoreError(f"{self.path}: artefact has no file {name!r}; run the study again to rebuild it.")
        return path


class Store:
    """The artefacts of one study, found by the id of what they are made from."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, spec: StageSpec) -> Path:
        """Return where the artefact of a spec is, or will be."""
        return self.root / spec.stage / spec.id[:_SHORT]

    def find(self, spec: StageSpec, *, verified: bool = True) -> Artefact | None:
        """Return the committed artefact of a spec, or None; a folder whose manifest does not hold counts as absent.

        Args:
            spec: what the artefact is made from.
            verified: hash every file (before use), or check names and sizes only (for a quick look).
        """
        path = self.path(spec)
        if not (path / MANIFEST).exists():
            return None
        try:
            artefact = read_artefact(path)
            if verified:
                verify(path)
        except StoreError:
            return None
        return artefact if content_id(artefact.spec) == spec.id else None

    def get(self, spec: StageSpec) -> Artefact:
        """Return the committed artefact of a spec.

        Raises:
            StoreError: it is not there.
        """
        artefact = self.find(spec)
        if artefact is None:
            raise StoreError(f"{self.path(spec)}: no such artefact; run the study again to build it.")
        return artefact

    @contextlib.contextmanager
    def write(self, spec: StageSpec, info: dict[str, Any]) -> Iterator[Path]:
        """Give a temporary folder to write into and commit it when the block ends without an error.

        Args:
            spec: what the artefact is made from.
            info: small JSON the stage wants to leave; it may be filled inside the block.
        """
        final = self.path(spec)
        with committed_folder(final) as folder:
            yield folder
            write_manifest(folder, spec.as_json(), info)

    def adopt(self, path: Path) -> Path:
        """Copy a committed artefact of another store into this one, and return where it is now.

        Raises:
            StoreError: it is damaged.
        """
        verify(path)
        final = self.root / str(read_artefact(path).spec["stage"]) / path.name
        with committed_folder(final) as folder:
            shutil.copytree(path, folder, dirs_exist_ok=True)
        return final

    def work(self, spec: StageSpec) -> Path:
        """Return the scratch folder of an unfinished stage (checkpoints); it survives kills and goes on commit."""
        path = self.root / ".work" / spec.stage / spec.id[:_SHORT]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def clear_work(self, spec: StageSpec) -> None:
        """Delete the scratch folder of a finished stage."""
        shutil.rmtree(self.root / ".work" / spec.stage / spec.id[:_SHORT], ignore_errors=True)

    def sweep(self) -> None:
        """Delete the temporary folders that a kill left behind, when they are old enough to be nobody's work."""
        for leftover in [*self.root.glob("*/.tmp-*"), *self.root.glob(".work/*/*/.tmp-*")]:
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def committed_folder(final: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a temporary sibling of `final`, fsync it and rename it to `final` when the block succeeds.

    If `final` holds a valid artefact already (another process was faster), the new one is discarded: the same id means
    the same content. A damaged `final` is replaced.

    Raises:
        ConfigError: without `replace`, as for a user's own folder, when anything has appeared at `final` meanwhile.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".tmp-{uuid.uuid4().hex}"
    temporary.mkdir()  # not mkdtemp, whose folders are closed to everybody else
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _fsync(path)
        _fsync(temporary)
        if final.exists():
            if not replace:
                raise ConfigError(f"{final}: appeared meanwhile; name a new folder with --out.")
            if _is_whole(final):
                return
            shutil.rmtree(final)
        os.replace(temporary, final)
        _fsync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path, spec: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Write the manifest of a folder: format, spec, info and the SHA-256 and size of every file."""
    files = {
        str(p.relative_to(folder)): {"sha256": file_digest(p), "bytes": p.stat().st_size}
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"format": FORMAT, "spec": spec, "info": info, "files": files})


def read_artefact(path: Path) -> Artefact:
    """Read a committed artefact, checking that every file is there with its size (not its hash: see `verify`).

    Raises:
        StoreError: no manifest, another format, or a file missing or cut.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            raise StoreError(f"{path}: artefact format {manifest['format']}; this preflab reads format {FORMAT}.")
        for name, entry in files.items():
            if (path / name).stat().st_size != entry["bytes"] or not isinstance(entry["sha256"], str):
                raise StoreError(f"{path / name}: {entry['bytes']} bytes expected; delete the folder and run again.")
        return Artefact(path=path, spec=manifest["spec"], info=manifest["info"])
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged artefact ({error}); delete the folder and run again.") from error


def verify(path: Path) -> None:
    """Hash every file of an artefact against its manifest.

    Raises:
        StoreError: a file differs from what was committed.
    """
    read_artefact(path)
    files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
    for name, entry in files.items():
        if file_digest(path / name) != entry["sha256"]:
            raise StoreError(f"{path / name}: content differs from its manifest; delete the folder and run again.")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically: temporary sibling, fsync, rename. NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as `write_json` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except StoreError:
        return False
    return True


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
