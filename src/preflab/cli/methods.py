"""`preflab methods`: print what the methods declare about themselves."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from preflab.core.errors import ConfigError

if TYPE_CHECKING:
    from preflab.methods import Method

app = App(name="methods", help="List, explain and cite the methods.")
Json = Annotated[bool, Parameter(name="--json", negative=())]


@app.command(name="list")
def list_methods(*, as_json: Json = False) -> None:
    """List the methods, one a line.

    Examples:
        preflab methods list
        preflab methods list --json

    Args:
        as_json: print one JSON document.
    """
    from preflab.methods import BUILT_IN
    from preflab.methods.cards import card

    if as_json:
        _print_json("methods", [card(method) for method in BUILT_IN])
        return
    width = max(len(method.name) for method in BUILT_IN) + 2
    for method in BUILT_IN:
        print(f"{method.name:{width}}{method.summary}")


@app.command
def show(name: str, /, *, as_json: Json = False) -> None:
    """Explain one method: formula, hyper-parameters, published values, source.

    Examples:
        preflab methods show simpo
        preflab methods show my_method.py:METHOD

    Args:
        name: a method's name, or FILE.py:NAME for a method of your own.
        as_json: print one JSON document.
    """
    from preflab.methods.cards import card, card_text

    method = _find(name)
    if as_json:
        _print_json("method", card(method))
    else:
        _print_markdown(card_text(method))


@app.command
def cite(*names: str, as_json: Json = False) -> None:
    """Print the BibTeX entries of the papers behind some methods, or behind all of them.

    Examples:
        preflab methods cite dpo ipo > methods.bib

    Args:
        names: methods to cite; all when none is named.
        as_json: print one JSON document.
    """
    from preflab.methods import BUILT_IN
    from preflab.methods.cards import bibtex

    methods = [_find(name) for name in names] or list(BUILT_IN)
    if as_json:
        _print_json("bibtex", {method.name: bibtex([method]).strip() for method in methods})
    else:
        print(bibtex(methods), end="")


@app.command
def from_trl(
    *settings: str,
    trainer: str = "dpo",
    trl_version: str = "1.16.0",
    config: Path | None = None,
    as_json: Json = False,
) -> None:
    """Print our method for a TRL configuration, and what would not be the same.

    Examples:
        preflab methods from-trl loss_type=robust label_smoothing=0.1
        preflab methods from-trl --trainer cpo loss_type=simpo beta=2 simpo_gamma=1 cpo_alpha=0
        preflab methods from-trl --config training.yaml --trl-version 0.24

    Args:
        settings: fields of the trainer's config class, KEY=VALUE; they go before those of the file.
        trainer: dpo, kto, cpo, orpo, tpo, bco or sft.
        trl_version: the version of TRL the configuration was written for; some options changed their meaning.
        config: a YAML or JSON file with fields of the config class.
        as_json: print one JSON document.
    """
    from preflab.methods.trl import translate

    found = translate(trainer, _fields(settings, config), version=_version(trl_version))
    if as_json:
        document = {"method": found.method, "hyperparameters": dict(found.hyperparameters), "notes": list(found.notes)}
        _print_json("translation", document)
        return
    values = ", ".join(f"{name}: {value:g}" for name, value in found.hyperparameters.items())
    print(f"methods:\n  {found.method}: {{{values}}}")
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)


def _fields(settings: tuple[str, ...], config: Path | None) -> dict[str, Any]:
    """Return the fields of a TRL configuration from a file and KEY=VALUE pairs.

    Raises:
        ConfigError: the file is no mapping, or a pair is none.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe")
    try:
        found = yaml.load(config.read_text(encoding="utf-8")) if config else {}
        pairs = [setting.partition("=") for setting in settings]
        found = dict(found) | {key: yaml.load(value) for key, sign, value in pairs if sign}
    except (OSError, UnicodeDecodeError, YAMLError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{config or settings}: must be a mapping of TRL fields to values ({reason}).") from error
    for setting, (_, sign, _) in zip(settings, pairs, strict=True):
        if not sign:
            raise ConfigError(f"{setting}: must be KEY=VALUE, such as loss_type=ipo.")
    return found


def _version(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(\.\d+)*", text):
        raise ConfigError(f"--trl-version: must be a version such as 1.16.0; got {text!r}.")
    return tuple(map(int, text.split(".")))


def _find(name: str) -> "Method":
    from preflab.studies.cells import method_from

    return method_from(name)


def _print_json(key: str, value: object) -> None:
    print(json.dumps({"schema_version": 1, key: value}, indent=1, ensure_ascii=False))


def _print_markdown(text: str) -> None:
    """Render Markdown for a person at a terminal; a pipe gets the text itself."""
    if not sys.stdout.isatty():
        print(text, end="")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
