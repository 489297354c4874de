"""The errors that preflab raises on purpose.

A message says where, what must hold, what came, and the way out, in one sentence a user can act on.
Anything else that escapes is a bug of ours.
"""


class PreflabError(Exception):
    """Base of every deliberate error; the command line prints its text without a traceback."""

    exit_code = 1


class ConfigError(PreflabError, ValueError):
    """A command, a study file or a hyper-parameter that cannot be meant as written."""

    exit_code = 2


class DataError(PreflabError, ValueError):
    """Data that cannot be read, or rows that must be declared before they are left out."""

    exit_code = 3


class StoreError(PreflabError):
    """An artefact that is missing, damaged or written by another format version."""

    exit_code = 3


class StudyLocked(StoreError):
    """Another process is writing to the same study."""

    exit_code = 75


class RunError(PreflabError, RuntimeError):
    """A stage that could not finish: out of memory, an unsupported architecture, a failed check."""

    exit_code = 1


class Diverged(RunError):
    """A non-finite loss, gradient or log-prob. A result of the cell, not a failure of the study."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"diverged at step {step}: {cause}")
        self.step = step
        self.cause = cause

    def __reduce__(self) -> tuple[type["Diverged"], tuple[int, str]]:
        return (type(self), (self.step, self.cause))


def nearest(name: str, known: list[str]) -> str:
    """Return a hint that names the closest known word, or all of them: `Did you mean 'beta'?`."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}? Known: {', '.join(known)}."
    return f"Known: {', '.join(known)}."
