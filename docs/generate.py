"""Write the pages under docs/generated/ from the code, or check that they are current.

python docs/generate.py
python docs/generate.py --check
"""

import argparse
import html
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from preflab.cli.main import COMMANDS, build_app
from preflab.methods import BUILT_IN, peers
from preflab.methods.cards import card, card_text
from preflab.report.columns import TABLES
from preflab.studies.config import MethodConfig, SourceConfig, StudyConfig

FOLDER = Path(__file__).parent / "generated"
NOTICE = "<!-- Written by docs/generate.py; edit the code it describes, then run `make docs`. -->\n\n"


def pages() -> dict[str, str]:
    """Return every generated page, file name to text."""
    return {
        "methods.md": methods_page(),
        **{f"methods/{method.name}.md": NOTICE + card_text(method, heading="#") for method in BUILT_IN},
        "peers.md": peers_page(),
        "commands.md": commands_page(),
        "study-file.md": study_file_page(),
        "tables.md": tables_page(),
        "study.schema.json": json.dumps(StudyConfig.model_json_schema(), indent=1) + "\n",
    }


def methods_page() -> str:
    """Return the list of all methods, each with its own page; `preflab methods show` prints the same."""
    head = "# Methods\n\nEvery page is the method's card; `preflab methods show NAME` prints the same.\n\n"
    rows = ["| method | what it does | needs | source |", "| --- | --- | --- | --- |"]
    for method in BUILT_IN:
        data = card(method)
        link = f"[arXiv:{method.source.arxiv}](https://arxiv.org/abs/{method.source.arxiv})"
        source = link if method.source.arxiv else f"[{method.source.paper}]({method.source.url})"
        rows.append(f"| [`{method.name}`](methods/{method.name}.md) | {method.summary} | {kind_of(data)} | {source} |")
    return NOTICE + head + "\n".join(rows) + "\n"


def kind_of(data: Mapping[str, Any]) -> str:
    """Say in a few words what a method needs, from its card."""
    roles = {leaf["role"] for leaf in data["inputs"]}
    shape = "pairs" if data["compares_pairs"] else "unpaired" if "rejected" in roles else "demonstrations"
    if data["own_answers"]:
        shape = "prompts, rewards"
    words = ["lists" if "ranked" in roles else "a gold response" if "gold" in roles else shape]
    quantities = {leaf["quantity"] for leaf in data["inputs"]}
    more = {
        "a reference": "reference" in quantities or data["own_answers"],
        "a value head": "value" in quantities,
        "a moving reference": data["moves_reference"],
        "whole distributions": bool(quantities & {"divergence", "collision"}),
        "tokens": any(leaf["per"] == "token" for leaf in data["inputs"]),
        "scores": "score" in quantities and "ranked" not in roles,
        "random draws": "noise" in quantities,
        "the batch": data["couples_batch"],
        "a state": data["keeps_state"],
    }
    return ", ".join([*words, *(word for word, holds in more.items() if holds)])


def peers_page() -> str:
    """Return the translation table of every peer."""
    parts = ["# What other tools call the methods\n\n" + inspect.cleandoc(peers.__doc__ or "") + "\n"]
    parts.append("`preflab methods from-trl` prints our method for a TRL configuration.\n")
    for peer in dict.fromkeys(row.peer for row in peers.SPELLINGS):
        rows = tuple(row for row in peers.SPELLINGS if row.peer == peer)
        parts.append(f"## {peer}\n\n{peers.table(rows)}\n")
    parts.append(
        "## Not here\n\nSPO (self-supervised preference degree, arXiv:2409.17791): its loss is not published in a form "
        "that could be checked, so there is no method of that name.\n"
    )
    return NOTICE + "\n".join(parts)


def commands_page() -> str:
    """Return the reference of every command, as its help page has it."""
    app = build_app([command.name for command in COMMANDS])
    text = app.generate_docs(output_format="markdown", heading_level=1)
    return NOTICE + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def tables_page() -> str:
    """Return the columns of the data frames that `preflab.load_study` gives."""
    head = "# Tables of a study\n\nWhat `preflab.load_study(FOLDER).data` holds; the frames may have more columns.\n"
    parts = [
        f"\n## `{name}`\n\n| column | type | what |\n| --- | --- | --- |\n"
        + "".join(f"| `{column}` | {_KINDS[type(of.default)]} | {of.meaning} |\n" for column, of in columns.items())
        for name, columns in TABLES.items()
    ]
    return NOTICE + head + "".join(parts)


_KINDS = {str: "text", int: "integer", float: "number", bool: "yes or no"}


def study_file_page() -> str:
    """Return every key of a study file with default and meaning, section by section."""
    parts = [
        "# Keys of a study file\n",
        "Editors complete and check study files with the schema beside this page, `study.schema.json`.\n",
        *_sections("", StudyConfig),
        f"## A method\n\n{inspect.cleandoc(MethodConfig.__doc__ or '')}\n",
        _table("methods.NAME.", MethodConfig),
        f"## A source\n\n{SourceConfig.__doc__}\n",
        _table("", SourceConfig),
    ]
    return NOTICE + "\n".join(parts)


def _sections(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    title = f"`{prefix.rstrip('.')}`" if prefix else "The file"
    yield f"## {title}\n"
    if prefix:
        yield f"{model.__doc__}\n"
    yield _table(prefix, model)
    for name, section in _inner_models(model):
        yield from _sections(f"{prefix}{name}.", section)


def _table(prefix: str, model: type[BaseModel]) -> str:
    shapes = model.model_json_schema()["properties"]
    inner = dict(_inner_models(model))
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        value = "a section, below" if name in inner else _allowed(shapes[name])
        meaning = field.description or (inner[name].__doc__ if name in inner else "")
        cells = (f"`{prefix}{name}`", value, _default(field), html.escape(meaning or "", quote=False))
        rows.append("|" + "".join(f" {cell} |" if cell else " |" for cell in cells))
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    """Return the default as it would be written; empty for a section, whose own table shows its defaults."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


def _inner_models(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not SourceConfig:
                yield name, kind


def _allowed(shape: Mapping[str, Any]) -> str:
    """Say in words what a JSON Schema allows."""
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_allowed(each) for each in shape["anyOf"]))
    if "enum" in shape or "const" in shape:
        return ", ".join(f"`{json.dumps(value)}`" for value in shape.get("enum", [shape.get("const")]))
    if shape.get("type") == "array":
        return f"list of {_allowed(shape.get('items', {}))}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    text = words.get(shape.get("type", ""), "null" if shape.get("type") == "null" else "mapping")
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = ", ".join(f"{sign} {shape[key]:g}" for key, sign in signs.items() if key in shape)
    return f"{text} {bounds}".strip()


def main() -> None:
    """Write the pages; with --check, exit with 1 when one of them is not current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a page is not current")
    check = parser.parse_args().check
    wanted = pages()
    stale = [name for name, text in wanted.items() if _text(FOLDER / name) != text]
    files = [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()]
    unknown = sorted(name for name in files if name not in wanted)
    if check:
        if stale or unknown:
            sys.exit(f"docs/generated: not current: {', '.join(stale + unknown)}. Run: make docs")
        print(f"docs/generated: {len(wanted)} pages are current")
        return
    FOLDER.mkdir(exist_ok=True)
    for name in stale:
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(wanted[name], encoding="utf-8")
    for name in unknown:
        (FOLDER / name).unlink()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    main()
