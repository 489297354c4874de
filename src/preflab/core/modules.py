"""Names in a user's own Python file: `path/to/file.py:NAME`."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from preflab.core.errors import ConfigError


def load_module(spec: str, *, what: str) -> tuple[ModuleType, str, Path]:
    """Execute the file of a `path/to/file.py:NAME`.

    Args:
        spec: file and name.
        what: what the name must be, for errors: `method`.

    Returns:
        The module, the name asked for (it may not be there) and the file.

    Raises:
        ConfigError: not of that form, no such file, or an error while it is imported.
    """
    path_text, _, name = spec.rpartition(":")
    if not path_text.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"{what} {spec!r}: must be path/to/file.py:NAME, with the name of a {what} in that file.")
    path = Path(path_text).expanduser()
    if not path.is_file():
        raise ConfigError(f"{what} {spec!r}: there is no file {path} (looked from {Path.cwd()}).")
    return _execute(path, what), name, path


def _execute(path: Path, what: str) -> ModuleType:
    module_name = f"preflab_{what}_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    found = importlib.util.spec_from_file_location(module_name, path)
    if found is None or found.loader is None:
        raise ConfigError(f"{path}: cannot be imported as Python.")
    module = importlib.util.module_from_spec(found)
    # Dataclasses and pickle look their module up by name.
    sys.modules[module_name] = module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ConfigError(f"{path}: importing it failed with {type(error).__name__}: {error}") from error
    return module
