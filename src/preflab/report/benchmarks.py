"""Benchmark results as tables and a page: scores with intervals, paired differences, and the answers side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.core.errors import ConfigError, StoreError
from preflab.evals.benchmarks.catalogue import Benchmark, benchmark
from preflab.evals.benchmarks.keys import Key, check_comparable
from preflab.evals.benchmarks.scores import Difference, Score, corrected, difference, score
from preflab.report.page import template, write_page
from preflab.report.sections import Cell, Table
from preflab.report.wording import MISSING, count, number, p_value, percent, score_range
from preflab.store.artefacts import read_artefact, verify, write_text

INDEX = "benchmarks.json"
REPORT = "benchmarks.html"
_RECORDS = "items.parquet"
_CUTS = {"truncated": "answers cut at the token limit", "cut": "prompts that lost their beginning"}
_SHOWN = 12
"""Written answers of each benchmark that are on the page."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's answers to a benchmark.

    Args:
        key: what its score depends on beside the weights.
        records: one per item.
    """

    key: Key
    records: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with what it was scored on, by name of the benchmark; `notes` are for readers of its numbers."""

    name: str
    scored: Mapping[str, Scored]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured: the first model is the baseline of the others.

    Args:
        models: in the order that they were named.
        index: command, request and what was missing.
    """

    models: Sequence[Model]
    index: Mapping[str, Any]

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """Every benchmark that some model was scored on, as first met."""
        return tuple(benchmark(name) for name in dict.fromkeys(n for model in self.models for n in model.scored))

    def score(self, model: Model, of: Benchmark, metric: str | None = None) -> Score | None:
        """Return a score with its interval, or None where the model was not scored."""
        found = model.scored.get(of.name)
        return None if found is None else score(of, found.records, metric)

    def differences(self) -> dict[str, list[Difference]]:
        """Return every other model's differences from the first, corrected over all of them.

        Raises:
            ConfigError: two scores differ in more than the weights.
        """
        if len(self.models) < 2:
            return {}
        first, found = self.models[0], []
        for model in self.models[1:]:
            for of in self.benchmarks:
                ours, theirs = model.scored.get(of.name), first.scored.get(of.name)
                if ours is None or theirs is None:
                    continue
                check_comparable(theirs.key, ours.key, (first.name, model.name))
                found.append((model.name, difference(of, ours.records, theirs.records)))
        adjusted = corrected([each for _, each in found])
        result: dict[str, list[Difference]] = {model.name: [] for model in self.models[1:]}
        for (name, _), each in zip(found, adjusted, strict=True):
            result[name].append(each)
        return result


def load_results(folder: Path) -> Results:
    """Read the results of an evaluation.

    Raises:
        ConfigError: the folder holds none.
        StoreError: a table of it is damaged.
    """
    path = folder / INDEX
    if not path.exists():
        raise ConfigError(f"{folder}: no benchmark results here (no {INDEX}); `preflab eval` makes them.")
    index = json.loads(path.read_text(encoding="utf-8"))
    models = [
        Model(
            each["name"], {name: _scored(folder / place) for name, place in each["benchmarks"].items()}, each["notes"]
        )
        for each in index["models"]
    ]
    return Results(models, index)


def _scored(place: Path) -> Scored:
    verify(place)
    try:
        records = pd.read_parquet(place / _RECORDS).to_dict("records")
    except (OSError, ValueError) as error:
        raise StoreError(f"{place / _RECORDS}: cannot be read ({error}); run the same command again.") from error
    return Scored(Key.from_json(read_artefact(place).info["key"]), records)


def write_benchmarks_report(folder: Path) -> Path:
    """Write the page and the tables (`scores.csv`, `differences.csv`) of an evaluation; return the page's path.

    Raises:
        ConfigError: the folder holds none, or scores cannot be compared.
    """
    results = load_results(folder)
    differences = results.differences()
    write_text(folder / "scores.csv", pd.DataFrame(score_rows(results)).to_csv(index=False))
    if differences:
        write_text(folder / "differences.csv", pd.DataFrame(difference_rows(differences)).to_csv(index=False))
    return write_page(template("benchmarks.html.j2").render(_context(results, differences)), folder / REPORT)


def score_rows(results: Results) -> list[dict[str, Any]]:
    """Return one row per model, benchmark and metric, for data frames: shares from 0 to 1 with 95 % bounds."""
    return [
        {"model": model.name, "benchmark": of.name, "metric": metric, "main": metric == of.metric,
         "estimate": found.interval.estimate, "low": found.interval.low, "high": found.interval.high,
         "interval": found.interval.kind, "n": len(model.scored[of.name].records),
         "shots": model.scored[of.name].key.shots}
        for model in results.models for of in results.benchmarks for metric in of.metrics
        if (found := results.score(model, of, metric)) is not None
    ]  # fmt: skip


def difference_rows(differences: Mapping[str, Sequence[Difference]]) -> list[dict[str, Any]]:
    """Return one row per model and benchmark: the paired difference from the first model."""
    return [
        {"model": name, "benchmark": each.benchmark.name, "metric": each.metric, "difference": each.interval.estimate,
         "low": each.interval.low, "high": each.interval.high, "won": each.won, "lost": each.lost, "p": each.p,
         "test": each.test, "p_holm": each.p_adjusted, "detectable": each.detectable, "verdict": each.verdict}
        for name, found in differences.items() for each in found
    ]  # fmt: skip


def score_table(results: Results) -> Table:
    """Return scores with intervals, a row per benchmark and a column per model."""
    head = [("Benchmark", ""), ("Metric", ""), ("Items", ""), ("Shots", "worked examples"), ("Chance", "")]
    head += [(model.name, "%, 95 % interval") for model in results.models]
    rows = []
    for of in results.benchmarks:
        first = next(model.scored[of.name] for model in results.models if of.name in model.scored)
        found = [results.score(model, of) for model in results.models]
        shots = str(first.key.shots) if first.key.shots else "none"
        rows.append(
            [
                Cell(of.title, of.family, "text"),
                Cell(of.metric, "" if of.higher_is_better else "lower is better", "text"),
                Cell(f"{len(first.records):,}"),
                Cell(shots, "chat template" if first.key.template else ""),
                Cell(_chance(of, first.records)),
                *(_score(each) for each in found),
            ]
        )
    return Table("Every score with its 95 % interval over items.", head, rows)


def difference_table(name: str, baseline: str, found: Sequence[Difference]) -> Table:
    """Return one model's paired differences from the baseline."""
    head = [
        ("Benchmark", ""), ("Difference", "points, 95 % interval"), ("Better on", "items"), ("Worse on", "items"),
        ("p", "exact McNemar, or sign flips of items or clusters"), ("p, Holm", "over everything compared here"),
        ("Detectable", "true difference found four times in five, points"), ("Verdict", "at 5 % after correction"),
    ]  # fmt: skip
    rows = [
        [
            Cell(each.benchmark.title, each.metric, "text"),
            Cell(_points(each.interval.estimate), score_range(each.interval, rate=True, sign=True)),
            Cell(f"{each.won:,}"), Cell(f"{each.lost:,}"), Cell(p_value(each.p), each.test),
            Cell(p_value(each.p_adjusted)), Cell(number(100 * each.detectable, 1)),
            Cell(each.verdict, kind="best" if each.verdict == "better" else "text"),
        ]
        for each in found
    ]  # fmt: skip
    return Table(f"{name} against {baseline}, item by item.", head, rows)


def headline(name: str, baseline: str, found: Sequence[Difference]) -> str:
    """Say in one sentence what a model won and lost against the baseline."""
    groups = {verdict: [e.benchmark.title for e in found if e.verdict == verdict] for verdict in ("better", "worse")}
    said = [f"{verdict} on {', '.join(titles)}" for verdict, titles in groups.items() if titles]
    rest = len(found) - sum(map(len, groups.values()))
    if rest:
        said.append(f"not told apart on {count(rest, 'benchmark')}")
    if not said:
        return f"{name} shares no benchmark with {baseline}."
    return f"{name} against {baseline}: {'; '.join(said)}."


def _score(found: Score | None) -> Cell:
    if found is None:
        return Cell(MISSING)
    return Cell(percent(found.interval.estimate, 1), score_range(found.interval, rate=True))


def _points(value: float) -> str:
    return number(100 * value, 1) if value < 0 else f"+{number(100 * value, 1)}"


def _chance(of: Benchmark, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the score of guessing: of choices the mean of right options over options."""
    if of.kind != "choice" or of.name == "truthfulqa":
        return MISSING
    return percent(sum(len(r["correct"]) / len(r["logps"]) for r in records) / len(records))


def _context(results: Results, differences: Mapping[str, Sequence[Difference]]) -> dict[str, Any]:
    baseline = results.models[0].name
    answers = _answers(results)
    sections = {
        "scores": "Scores",
        "differences": "Differences" if differences else "",
        "answers": "Answers" if answers else "",
        "how": "How",
    }
    return {
        "groups": [(title, [(target, title)]) for target, title in sections.items() if title],
        "baseline": baseline,
        "scope": f"{count(len(results.models), 'model')}, {count(len(results.benchmarks), 'benchmark')}",
        "scores": score_table(results),
        "headlines": [headline(name, baseline, found) for name, found in differences.items()],
        "differences": [difference_table(name, baseline, found) for name, found in differences.items()],
        "answers": answers,
        "missing": results.index["missing"],
        "notes": [f"{model.name}: {note}" for model in results.models for note in model.notes],
        "limits": _limits(results),
        "keys": _keys(results),
        "command": results.index["command"],
    }


def _limits(results: Results) -> list[str]:
    """Say what of the answers was cut, which can make a comparison unfair."""
    lines = []
    for of in results.benchmarks:
        records = {model.name: model.scored[of.name].records for model in results.models if of.name in model.scored}
        for field, what in _CUTS.items():
            counts = {name: sum(bool(record.get(field)) for record in own) for name, own in records.items()}
            if not any(counts.values()):
                continue
            total = len(next(iter(records.values())))
            alike = len(set(counts.values())) == 1 and len(counts) > 1
            whose = f"each model {max(counts.values())}" if alike else ", ".join(f"{k} {n}" for k, n in counts.items())
            lines.append(f"{of.title}: {what}, of {total}: {whose}.")
    return lines


def _keys(results: Results) -> Table:
    head = [("Benchmark", ""), ("Scorer", ""), ("Items", "digest"), ("Prompts", "digest"), ("Precision", "")]
    rows = []
    for of in results.benchmarks:
        key = next(model.scored[of.name].key for model in results.models if of.name in model.scored)
        precision = ", ".join(str(value) for value in key.numeric.values())
        rows.append([Cell(of.title, of.source, "text"), Cell(key.scorer, kind="text"),
                     Cell(key.subset[:12], kind="text"),
                     Cell(key.prompts[:12], kind="text"), Cell(precision, kind="text")])  # fmt: skip
    return Table("What the scores depend on beside the weights.", head, rows)


def _answers(results: Results) -> list[dict[str, Any]]:
    """Return written answers side by side, those first on which models differ in right and wrong."""
    found = []
    for of in results.benchmarks:
        models = [model for model in results.models if of.name in model.scored]
        if of.kind != "written" or not models:
            continue
        by_item = [{r["item"]: r for r in model.scored[of.name].records} for model in models]
        shared = [item for item in by_item[0] if all(item in records for records in by_item)]
        ordered = sorted(shared, key=lambda item: -len({records[item][of.metric] for records in by_item}))
        items = [
            {
                "prompt": by_item[0][item]["prompt"],
                "row": by_item[0][item]["row"],
                "cards": [
                    {
                        "title": model.name,
                        "text": records[item]["response"],
                        "value": number(records[item][of.metric], 2),
                    }
                    for model, records in zip(models, by_item, strict=True)
                ],
            }
            for item in ordered[:_SHOWN]
        ]
        found.append({"title": of.title, "metric": of.metric, "items": items})
    return found
