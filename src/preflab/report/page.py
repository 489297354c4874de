"""One self-contained HTML file: no request leaves it, and model text can never become markup or script."""

import base64
import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from preflab.report import (
    capabilities,
    damaged,
    effect_tables,
    figures,
    frontier,
    judged,
    lengths,
    rewards,
    robustness,
    sections,
    starts,
)
from preflab.report.analysis import SPLITS, Analysis, analyse, seeds_of
from preflab.report.answer import Answer, answer
from preflab.report.curves import curves
from preflab.report.damages import blaming
from preflab.report.properties import HOW, properties_tables
from preflab.report.provenance import cards, data_table, fairness, machine, provenance
from preflab.report.samples import families, sample
from preflab.report.tables import StudyTables
from preflab.report.wording import count, duration

_HERE = Path(__file__).parent
_CHIPS = {
    "settled": "Settled",
    "open": "Not settled",
    "no gain": "No reliable gain",
    "single": "One method only",
    "nothing": "No result yet",
}
_GROUPS = (
    ("Result", (("answer", "Answer"), ("damaged", "Damaged"))),
    ("Which method", (
        ("ranking", "Ranking"), ("starts", "Start points × sizes"), ("robustness", "Robustness"),
        ("benchmarks", "Benchmarks"), ("judged", "Judged"),
    )),
    ("What it did to the model", (
        ("effects", "Effects on the model"), ("likelihood", "Likelihood"), ("properties", "Three properties"),
        ("rewards", "Rewards"), ("behaviour", "KL and effects"), ("lengths", "Lengths"),
    )),
    ("Responses", (("responses", "Responses"),)),
    ("Training and cost", (
        ("curves", "Training curves"), ("stopped", "Stopped early"), ("trouble", "Diverged"), ("cost", "Cost"),
    )),
    ("Behind the numbers", (("fairness", "Fairness"), ("provenance", "Provenance"))),
)  # fmt: skip
"""The navigation: titles of the groups, and the id and title of each section, in the order of the page."""
_SCRIPTS = (
    "page.js", "theme.js", "tables.js", "diff.js", "marks.js", "matrix.js", "vendor/uPlot.iife.min.js", "charts.js",
    "points.js",
)  # fmt: skip
_STYLES = ("page.css", "matrix.css", "points.css", "vendor/uPlot.min.css", "print.css")


def write_report(tables: StudyTables, out: Path) -> Path:
    """Write the report of a study, finished or not, as one HTML file and return its path.

    The bytes depend on the tables alone. The file appears whole or not at all.

    Args:
        tables: what the study measured; empty tables give a page that says what is missing.
        out: the file to write; its folder is made.
    """
    return write_page(render(tables), out)


def write_page(text: str, out: Path) -> Path:
    """Write a page and return its path; the file appears whole or not at all."""
    # A lone surrogate in some text must not cost the whole report.
    data = text.encode("utf-8", "replace")
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return out


def render(tables: StudyTables, *, live: bool = False) -> str:
    """Return the page as text; arguments as in `answered`."""
    return answered(tables, live=live)[0]


def answered(tables: StudyTables, *, live: bool = False) -> tuple[str, Answer]:
    """Return the page as text, and the answer that stands first on it.

    Args:
        tables: what the study measured.
        live: whether `preflab view` serves it, so that it can ask how far the study is.
    """
    with blaming(tables.damages, sealed=tables.sealed):
        context = page_context(analyse(tables))
        if not live:
            return template("page.html.j2").render(context), context["answer"]
    page = template("view.html.j2").render(**context, live_js=_text("view.js"), live_css=_text("view.css"))
    return page, context["answer"]


def template(name: str) -> jinja2.Template:
    """Return a template of this folder; what it is given is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticks"] = ticks
    environment.filters["source"] = source
    environment.globals["css"] = _joined(_STYLES)
    return environment.get_template(name)


def ticks(text: str) -> Markup:
    """Return escaped text in which `words between backticks` are set as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if k % 2 else escape(p) for k, p in enumerate(parts))


def page_context(analysis: Analysis) -> dict[str, Any]:
    """Return what the template fills the page with."""
    study, verdict = analysis.tables.study, answer(analysis)
    samples = sample(analysis)
    sampled = list(dict.fromkeys(g["start"] for g in samples.data["groups"]))
    best_start = verdict.winner.start if verdict.winner and verdict.winner.start in sampled else next(iter(sampled), "")
    context = {
        "name": study.get("name") or "without a name",
        "created": str(study.get("created") or "")[:16].replace("T", " "),
        "scope": _scope(analysis),
        "js": _joined(_SCRIPTS),
        "answer": verdict,
        "chip": _CHIPS[verdict.status] + (" so far" if verdict.headline.startswith("So far") else ""),
        "missing": analysis.missing,
        "metric": analysis.metric,
        "damaged": damaged.context(analysis),
        "findings": analysis.findings,
        "size": analysis.size,
        "samples": samples,
        "curves": curves(analysis),
        "sample_starts": sampled,
        "sample_seeds": sorted({group["seed"] for group in samples.data["groups"] if group["seed"] >= 0}),
        "n_seeds": seeds_of(analysis.tables.cells),
        "sample_families": families(samples.data["items"]),
        "best_start": best_start,
        "splits": _sampled_splits(samples.data["items"]),
        "first_items": samples.data["items"][:1],
        "figures": _figures(analysis, best_start),
        "wall": duration(study["wall_s"]) if study.get("wall_s") else "",
        "machine": machine(study),
        "fairness": fairness(analysis),
        "command": study.get("command", ""),
        "provenance": provenance(study),
        "data": data_table(study),
        "config": study.get("config_yaml", ""),
        "cards": cards(study),
        "behaviour": _behaviour(analysis, best_start),
        "rewards": rewards.context(analysis),
        "benchmarks": capabilities.tables(analysis, best_start),
        "judged": judged.context(analysis),
        "effects": effect_tables.by_start(analysis, best_start),
        "robustness": robustness.context(analysis, best_start),
        "lengths": lengths.context(analysis, best_start),
        "scenarios": starts.context(analysis, best_start),
        "overview": effect_tables.overview(analysis),
        "diagnosed": _diagnosed(analysis),
        **_tables(analysis, best_start),
    }
    return {**context, "groups": _present(context)}


def source(text: str) -> Markup:
    """Return the Content-Security-Policy source that allows one inline script or style sheet."""
    return Markup("sha256-") + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _joined(names: Iterable[str]) -> str:
    return "\n".join(_text(name) for name in names)


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _scope(analysis: Analysis) -> str:
    cells = analysis.tables.cells
    trained = cells[cells["method"] != ""]
    axes = {"method": len(analysis.methods), "start point": len(analysis.starts), "size": len(analysis.sizes),
            "seed": seeds_of(analysis.tables.cells)}  # fmt: skip
    text = f"{' × '.join(count(n, name) for name, n in axes.items())}, {count(len(trained), 'cell')}"
    return text + (" with all settings" if len(trained) > math.prod(axes.values()) else "")


def _tables(analysis: Analysis, best_start: str) -> dict[str, Any]:
    return {
        "winners": sections.winners(analysis),
        "rankings": _rankings(analysis),
        "starts": [table for split in SPLITS if (table := sections.starts_table(analysis, split))],
        "families": [table for split in SPLITS if (table := sections.families_table(analysis, split))],
        "properties": properties_tables(analysis, analysis.size, best_start),
        "smaller_properties": [t for size in reversed(analysis.sizes[:-1]) for t in properties_tables(analysis, size)],
        "properties_how": HOW,
        "cost": sections.cost_table(analysis),
        "stopped": sections.stopped_table(analysis),
        "trouble": sections.trouble_table(analysis),
    }


def _rankings(analysis: Analysis) -> list[dict[str, Any]]:
    """Return every ranking, the first one unfolded."""
    result: list[dict[str, Any]] = []
    for scope in analysis.scopes:
        for split in SPLITS:
            ranking = analysis.ranking(split, scope)
            if ranking is None:
                continue
            table = sections.ranking_table(analysis, ranking)
            result.append(
                {"title": table.caption.rstrip("."), "table": table, "tests": sections.tests_table(analysis, ranking),
                 "open": not result}
            )  # fmt: skip
    return result


def _behaviour(analysis: Analysis, best_start: str) -> list[dict[str, Any]]:
    """Return the tables of effects by start point, the best one unfolded."""
    result: list[dict[str, Any]] = []
    for split in SPLITS:
        for start in sorted(analysis.starts, key=lambda start: start != best_start):
            table = sections.behaviour_table(analysis, split, start)
            if table is not None:
                parts = sections.parts_table(analysis, split, start)
                result.append(
                    {"title": table.caption.split(";")[0], "table": table, "parts": parts, "open": not result}
                )
    return result


def _diagnosed(analysis: Analysis) -> str:
    """Say what the diagnosis was measured on."""
    probes, samples = analysis.tables.probes, analysis.tables.samples
    if probes.empty:
        return ""
    rows, answers = int(probes["row"].nunique()), int(samples["row"].nunique())
    return f"{count(rows, 'test row')} and {count(answers, 'sampled answer')}"


def _figures(analysis: Analysis, best_start: str) -> dict[str, Any]:
    order = sorted(analysis.starts, key=lambda start: start != best_start)
    likelihoods = [(start, found) for start in order if (found := figures.likelihood_figure(analysis, start))]
    return {
        "ranking": figures.ranking_figure(analysis),
        "sizes": figures.sizes_figure(analysis),
        "frontier": frontier.frontier_figure(analysis),
        "lengths": figures.lengths_figure(analysis),
        "likelihoods": likelihoods,
    }


def _sampled_splits(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    titles = {"test": "test", "ood": "out of distribution"}
    found = [split for split in SPLITS if any(item["split"] == split for item in items)]
    return ([("", "all")] if len(found) > 1 else []) + [(split, titles[split]) for split in found]


def _present(context: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the groups of sections that the page has."""
    has = {
        "damaged": context["damaged"],
        "ranking": context["rankings"],
        "starts": context["starts"],
        "robustness": context["robustness"],
        "effects": context["effects"],
        "likelihood": context["figures"]["likelihoods"],
        "properties": context["properties"],
        "rewards": context["rewards"],
        "benchmarks": context["benchmarks"],
        "judged": context["judged"],
        "behaviour": context["behaviour"],
        "lengths": context["figures"]["lengths"],
        "responses": context["samples"].data["items"],
        "curves": context["curves"],
        "stopped": context["stopped"],
        "trouble": context["trouble"],
        "cost": context["cost"],
    }
    groups = [(group, [part for part in parts if has.get(part[0], True)]) for group, parts in _GROUPS]
    return [group for group in groups if group[1]]
