"""The study file: one YAML document, decoded strictly; every error names file, line, key and the way out."""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from preflab.core.errors import ConfigError, nearest
from preflab.studies.config import StudyConfig

Kind = TypeVar("Kind", bound=BaseModel)


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file; relative paths in it are taken from the current folder.

    Args:
        path: the YAML file.
        overrides: `key=value` texts such as `methods.dpo.beta=0.2`; values are YAML.

    Raises:
        ConfigError: not readable, not YAML, unknown keys, or values that cannot be meant.
    """
    remedy = "`preflab init` writes a study file to start from."
    return decode(read_document(path, StudyConfig, overrides, remedy=remedy), source=str(path))


def read_document(path: Path, kind: type[BaseModel], overrides: Sequence[str] = (), *, remedy: str) -> Any:
    """Read a YAML file that declares something, with its lines; nothing is checked but that it is a mapping.

    Args:
        path: the YAML file.
        kind: what it declares.
        overrides: `key=value` texts.
        remedy: sentence that ends the error of a file that cannot be read.

    Raises:
        ConfigError: not readable, not YAML or no mapping, or an override that cannot be meant.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8. {remedy}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error
    document = _parse(text, str(path))
    if not isinstance(document, dict):
        keys = ", ".join(f"{name}:" for name, field in kind.model_fields.items() if field.is_required())
        raise ConfigError(f"{path}: a study file is a mapping ({keys}); got {_describe(document)}.")
    return apply_overrides(document, overrides)


def study_folder(path: Path) -> Path:
    """Return the folder of a study that is named by its folder or by its study file (then `runs/NAME`).

    Raises:
        ConfigError: as in `load_study`.
    """
    return Path("runs") / load_study(path).study if path.suffix in (".yaml", ".yml") else path


def decode(document: Mapping[str, Any], *, source: str) -> StudyConfig:
    """Check a parsed study document.

    Raises:
        ConfigError: with the place of the first problem, and all others below it.
    """
    config = validated(StudyConfig, document, source=source)
    config._places.update({name: f"{source}{_line(document, ['methods', name])} " for name in config.methods})
    return config


def validated(kind: type[Kind], document: Mapping[str, Any], *, source: str) -> Kind:
    """Check a parsed document of any kind.

    Raises:
        ConfigError: with the place of the first problem, and all others below it.
    """
    try:
        return kind.model_validate(_plain(document))
    except ValidationError as error:
        explained = dict.fromkeys(_explain(e, kind, document, source) for e in error.errors())
        raise ConfigError("\n".join(explained)) from error


def _describe(value: Any) -> str:
    """Return a word for what a document is instead of a mapping."""
    return "an empty file" if value is None else "a list" if isinstance(value, list) else f"{value!r}"


def dump(config: BaseModel) -> str:
    """Return the resolved configuration as YAML, every default written out."""
    stream, yaml = StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def _parse(text: str, source: str) -> Any:
    yaml = YAML(typ="rt")
    yaml.version = (1, 2)
    try:
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem}.") from error


def apply_overrides(document: Any, overrides: Sequence[str]) -> Any:
    """Set dotted keys; the lines of untouched keys stay known."""
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set {override}: must be key=value, such as --set methods.dpo.beta=0.2.")
        node = document
        *parents, last = key.split(".")
        for parent in parents:
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                raise ConfigError(f"--set {override}: {parent} is a value, not a section.")
        node[last] = _parse(text, f"--set {override}")
    return document


def _plain(value: Any) -> Any:
    """Return plain dicts, lists and scalars of a ruamel document."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _explain(error: Any, kind: type[BaseModel], document: Any, source: str) -> str:
    """Turn one pydantic error into one sentence: `file:line key`, what must hold, what came, the way out."""
    loc = [part for part in error["loc"] if not (isinstance(part, str) and part.startswith(("function-", "list[")))]
    path = [p for p in loc if p not in ("str", "int", "float", "count", "source", "literal['all']", "nullable")]
    place, key = f"{source}{_line(document, path)}", ".".join(map(str, path))
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] in ("model_type", "dict_type"):
        message = "must be a mapping of keys to values"
    elif error["type"] in ("float_type", "int_type") and len(path) > 2 and path[0] == "methods":
        message, key = "must be a number or a list of numbers", ".".join(map(str, path[:3]))
    elif path == ["seeds"]:
        message = "must be a count from 1, or a list of whole numbers"
    if error["type"] == "extra_forbidden":
        return f"{place} {key}: unknown key. {nearest(str(path[-1]), _known_keys(kind, path[:-1]))}"
    if error["type"] == "missing":
        return f"{place} {key}: missing."
    if not path:
        return f"{place}: {message}."
    return f"{place} {key}: {message[0].lower()}{message[1:]}; got {error['input']!r}."


def _line(document: Any, path: Sequence[Any]) -> str:
    """Return `:line` of the deepest part of a key path that the file has."""
    line, node = "", document
    for part in path:
        try:
            marks: Any = node.lc
            position = marks.key(part) if isinstance(node, dict) else marks.item(part)
            line, node = f":{position[0] + 1}", node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _known_keys(kind: type[BaseModel], path: Sequence[Any]) -> list[str]:
    section: Any = kind
    for part in path:
        # A mapping by free names, such as methods, has keys of its own on the way to its sections.
        fields = section.model_fields
        section = next(_sections_of(fields[part].annotation), section) if part in fields else section
    return list(section.model_fields)


def _sections_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_of(inner)
