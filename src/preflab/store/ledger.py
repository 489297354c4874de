"""The study's ledger: one writer at a time, one line per event, and what each worker is doing right now."""

import calendar
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from preflab.core.errors import ConfigError, StudyLocked
from preflab.store.artefacts import write_json

RUN = "run"
"""Task under which the run itself says how far it is."""


_PATIENCE_S = 1.0  # who asks whether a study runs holds its lock for a moment


@contextlib.contextmanager
def study_lock(study: Path) -> Iterator[None]:
    """Hold the study's kernel lock; the kernel drops it when the process dies, so it can never be stale.

    Raises:
        StudyLocked: another process holds it.
        ConfigError: the folder cannot be made or written.
    """
    lock, owner = FileLock(study / ".lock"), study / ".lock-owner.json"
    try:
        study.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE_S)
    except Timeout as error:
        message = f"{study}: another process is running this study ({_owner(owner)}); wait or stop it."
        raise StudyLocked(message) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"{study}: cannot be made or written ({why}); choose another folder with --out.") from error
    try:
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": timestamp()})
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_locked(study: Path) -> bool:
    """Return whether a process runs the study right now; of a study that may only be read as well."""
    if not (study / ".lock").exists():
        return False
    if not os.access(study / ".lock", os.W_OK):
        return _is_held(study / ".lock")
    lock = FileLock(study / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _is_held(path: Path) -> bool:
    """Return whether somebody holds a lock file, without writing to it."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def timestamp() -> str:
    """Return the UTC time in ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def seconds_of(stamp: str) -> float:
    """Return the seconds since 1970 of a `timestamp`."""
    return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))


class Ledger:
    """Append-only events (`events.jsonl`) and one progress file per running stage."""

    def __init__(self, study: Path) -> None:
        self._events = study / "events.jsonl"
        self._progress = study / "progress"

    def append(self, event: str, **fields: Any) -> None:
        """Append one event, fsynced."""
        line = json.dumps({"time": timestamp(), "event": event, **fields}, ensure_ascii=False, allow_nan=False)
        with self._events.open("a+b") as stream:
            if size := stream.seek(0, os.SEEK_END):
                stream.seek(size - 1)
                if stream.read() != b"\n":
                    stream.write(b"\n")  # a line that a crash cut must not take this one with it
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def events(self) -> list[dict[str, Any]]:
        """Return the events in order; a last line cut by a crash is left out."""
        if not self._events.is_file():
            return []
        events = []
        for line in self._events.read_text(encoding="utf-8", errors="replace").split("\n"):
            with contextlib.suppress(json.JSONDecodeError, RecursionError):
                events.append(json.loads(line))
        return events

    def report_progress(self, task: str, fields: Mapping[str, Any]) -> None:
        """Say what a stage is doing; other processes read it with `progress`."""
        self._progress.mkdir(exist_ok=True)
        write_json(self._progress / f"{task}.json", {"task": task, "at": time.time(), **fields})

    def end_progress(self, task: str) -> None:
        """Forget a stage that has ended."""
        (self._progress / f"{task}.json").unlink(missing_ok=True)

    def progress(self) -> list[dict[str, Any]]:
        """Return what the running stages last said."""
        said = []
        for path in sorted(self._progress.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                said.append(json.loads(path.read_text(encoding="utf-8")))
        return said


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, KeyError, json.JSONDecodeError):
        return "owner unknown"
