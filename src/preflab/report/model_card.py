"""The model card of an exported model: what it is, how it was chosen, what it scored and what training did to it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from huggingface_hub import ModelCardData

from preflab.report.analysis import SPLITS, Analysis
from preflab.report.answer import Answer
from preflab.report.behaviour import Behaviour
from preflab.report.cells import Cell, Table, measured
from preflab.report.provenance import machine
from preflab.report.ranking import group_intervals
from preflab.report.tables import Group, clusters_of, item_table
from preflab.report.typeset import as_markdown, markdown
from preflab.report.wording import MISSING, count, duration, number, score, score_range
from preflab.stats.intervals import Interval, mean_interval

_SPLITS = {"test": "Test prompts", "ood": "Out-of-distribution prompts"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which cell of a study became this model, and why.

    Args:
        cell: its record in the study's index.
        how: why this method and setting, as a sentence.
        seed: why this seed, as a sentence.
        kind: `weights`, `adapter` or `merged adapter`.
        base: the model it started from, as the study names it.
        command: the command that exported it.
    """

    cell: Mapping[str, Any]
    how: str
    seed: str
    kind: str
    base: str
    command: str


class _Raw(str):
    """Text that is Markdown already."""

    __slots__ = ()


def model_card(analysis: Analysis, verdict: Answer, choice: Choice) -> str:
    """Return the text of `README.md`: YAML front matter for the Hub, then the card.

    Every text of the study is escaped: it can become neither Markdown nor HTML.

    Args:
        analysis: the study's numbers.
        verdict: the study's answer.
        choice: the exported cell.
    """
    study, cell = analysis.tables.study, choice.cell
    card = dict(study.get("cards", {}).get(cell["method"], {}))
    given = card.get("source")
    source: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    data = study.get("data", {})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        finalize=lambda value: value if isinstance(value, _Raw) else markdown(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("model_card.md.j2").render(
        front=_Raw(_front_matter(choice, source, data)),
        title=f"{analysis.title(cell['method'])} on {_name(choice.base)}",
        study=study.get("name", ""),
        choice=choice,
        verdict=verdict,
        facts=_facts(analysis, choice),
        paper=", ".join(str(source[key]) for key in ("paper", "title") if source.get(key)),
        arxiv=source.get("arxiv") or "",
        summary=card.get("summary") or "",
        scores=_Raw(as_markdown("scores", _scores(analysis, cell))),
        effect=_effect(analysis, cell),
        data=_data(data),
        config=_Raw(_fenced(str(study.get("config_yaml") or ""), "yaml")),
        command=_Raw(_fenced("\n".join(filter(None, (str(study.get("command") or ""), choice.command))), "text")),
        versions=", ".join(f"{name} {version}" for name, version in study.get("versions", {}).items()),
        commit=study.get("commit") or "",
        machine=machine(study),
        notes=study.get("notes") or [],
        bibtex=_Raw(_fenced(str(source.get("bibtex") or ""), "bibtex")) if source.get("bibtex") else "",
    )
    return text.rstrip("\n") + "\n"


def is_hub_id(name: str) -> bool:
    """Return whether a name looks like `owner/model`, and no folder has it."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def _front_matter(choice: Choice, source: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    files = data.get("source")
    trained = files.get("train") if isinstance(files, Mapping) else files
    tags = ["preference-optimization", "preflab", str(choice.cell["method"])]
    found = ModelCardData(
        base_model=choice.base if is_hub_id(choice.base) else None,
        library_name="peft" if choice.kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        datasets=[trained] if isinstance(trained, str) and is_hub_id(trained) else None,
        tags=[*tags, *([f"arxiv:{source['arxiv']}"] if source.get("arxiv") else [])],
    )
    return str(found.to_yaml())


def _facts(analysis: Analysis, choice: Choice) -> list[tuple[str, str]]:
    cell = choice.cell
    return [
        ("Start point", f"{cell['start']} ({_name(choice.base)})"),
        ("Method", f"{analysis.title(cell['method'])}: {cell['setting'] or 'defaults'}"),
        ("Training", f"{count(int(cell['size']), 'pair')}, {count(int(cell['n_steps'] or 0), 'step')}, "
                     f"seed {cell['seed']}, {duration(cell['train_s'])}"),
        ("Files", {"weights": "whole weights", "adapter": "a PEFT adapter for the model above",
                   "merged adapter": "whole weights, the adapter folded in"}[choice.kind]),
        ("Cell", str(cell["cell"])),
    ]  # fmt: skip


def _scores(analysis: Analysis, cell: Mapping[str, Any]) -> Table:
    rate = analysis.metric.is_rate
    group = Group(str(cell["start"]), str(cell["method"]), int(cell["size"]))
    rows: list[Sequence[Cell]] = []
    for split in SPLITS:
        if split not in analysis.scores:
            continue
        means, facts = group_intervals(analysis.scores[split]), analysis.behaviour[split]
        start = Group(group.start, "", 0)
        own = _own(analysis, split, str(cell["cell"]))
        shown: list[tuple[str, Interval | None, Behaviour | None]] = [("this model", own, None)]
        n_seeds = len(analysis.scores[split].seeds.get(group, ()))
        shown += [
            (f"all {n_seeds} seeds" if n_seeds > 1 else "its seed", means.get(group), facts.get(group)),
            ("start point", means.get(start), facts.get(start)),
        ]
        for name, interval, behaviour in shown:
            kl = behaviour.kl if behaviour and name != "start point" else None
            length = behaviour.length if behaviour else None
            rows.append([
                Cell(f"{_SPLITS[split]}: {name}", kind="text"),
                Cell(MISSING) if interval is None else measured(
                    score(interval.estimate, rate=rate), interval, score_range(interval, rate=rate)),
                Cell(number(kl.estimate, 2) if kl else MISSING),
                Cell(number(length.estimate, 1) if length else MISSING),
            ])  # fmt: skip
    head = [("", ""), (analysis.metric.label, "95 % interval"), ("KL to the start point", "nats per response"),
            ("Length", "tokens")]  # fmt: skip
    return Table(
        "Scores. Intervals of this model are over prompts; of several seeds over prompts and seeds.", head, rows
    )


def _own(analysis: Analysis, split: str, cell: str) -> Interval | None:
    wide, facts, _ = item_table(analysis.tables, split, analysis.metric.name, np.array([cell]))
    return mean_interval(wide[cell].to_numpy(), clusters=clusters_of(facts)) if cell in wide else None


def _effect(analysis: Analysis, cell: Mapping[str, Any]) -> str:
    effect = analysis.effects.get(Group(str(cell["start"]), str(cell["method"]), int(cell["size"])))
    return "" if effect is None else effect.headline


def _data(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    def flat(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{k} {flat(v)}" for k, v in value.items() if v) or "none"
        return f"{value:,}" if isinstance(value, int) else _name(str(value))

    names = {"source": "Source", "n_rows": "Rows", "excluded": "Left out", "digest": "SHA-256 of the tokens"}
    return [(title, flat(data[key])) for key, title in names.items() if key in data]


def _name(source: str) -> str:
    """Return what may be published of a file's place: its folders are the business of the machine that trained."""
    return Path(source).name if Path(source).is_absolute() else source


def _fenced(text: str, language: str) -> str:
    """Return a block of code that its text cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
