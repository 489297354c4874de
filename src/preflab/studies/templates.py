"""Study files that ship with the package, and the study of one cell behind `preflab train`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError
from preflab.studies.cells import method_from
from preflab.studies.config import StudyConfig
from preflab.studies.study_file import apply_overrides, decode


def template_path(name: str) -> Path:
    """Return the path of a study file of the package."""
    return Path(__file__).parent / "files" / name


def write_template(path: Path, *, model: str | None, data: str | None, force: bool) -> None:
    """Write a commented study file to start from: of a model and data, or of the pocket world where neither is named.

    Raises:
        ConfigError: the file is there already, or only one of model and data is named.
    """
    if (model is None) != (data is None):
        raise ConfigError("--model and --data go together; name both, or neither for a study of the pocket world.")
    if path.exists() and not force:
        raise ConfigError(f"{path}: is there already; name another file, or add --force to overwrite it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = template_path("study.yaml" if model is None else "own.yaml").read_text(encoding="utf-8")
    path.write_text(_filled(_filled(text, "MODEL", model), "DATA", data), encoding="utf-8")


def _filled(text: str, placeholder: str, value: str | None) -> str:
    """Put a value, quoted as YAML wants it, where a template has a placeholder before a comment."""
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(rf": {placeholder} +#", lambda _: f": {quoted}  #", text)


def single_cell(
    model: str,
    data: str,
    method: str,
    overrides: Sequence[str] = (),
    *,
    hyperparameters: Mapping[str, Any] | None = None,
    source: str = "preflab train",
) -> StudyConfig:
    """Return the study of one cell: one model as it is, one method at its defaults, all rows, one seed.

    Args:
        model: Hub id, folder or pocket:base.
        data: file, folder, Hub id or pocket:pairs.
        method: name of a method, or path/to/file.py:NAME.
        overrides: `key=value` texts of a study file.
        hyperparameters: the method's, where they are not its defaults.
        source: what errors call the declaration.

    Raises:
        ConfigError: an override cannot be meant.
    """
    parts = [Path(text.replace(":", "-")) for text in (model, data)]
    words = [parts[0].name, parts[1].stem, method_from(method).name]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(["train", *words]))
    document: dict[str, Any] = {
        "study": name,
        "models": {"base": model},
        "methods": {method: dict(hyperparameters or {})},
        "data": {"train": data},
    }
    if data.startswith("pocket:"):
        document["evaluate"] = {"reward": "pocket"}
    return decode(apply_overrides(document, overrides), source=source)
