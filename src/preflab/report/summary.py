"""The report as JSON, for scripts and tests: the same numbers as the page, NaN as null."""

import dataclasses
import math
from typing import Any

from preflab.report import starts
from preflab.report.analysis import Analysis, analyse
from preflab.report.answer import answer
from preflab.report.damages import blaming
from preflab.report.effects import Effect
from preflab.report.ranking import RankedMethod, Ranking
from preflab.report.tables import Group, StudyTables

SCHEMA_VERSION = 1


def summary(tables: StudyTables) -> dict[str, Any]:
    """Return everything the page concludes as JSON-like data.

    Keys: schema_version, study, metric, answer, rankings (split, start, size, rows with estimates, intervals, tests),
    behaviour (per split and group), properties (per group), starts (each method without SFT, smaller sizes, task
    families), effects (what training did, per group), judged (what judges said, per start point), findings, diverged,
    stopped, missing, damages (files left out).
    """
    with blaming(tables.damages, sealed=tables.sealed):
        return {"schema_version": SCHEMA_VERSION, **_plain(_contents(analyse(tables)))}


def _contents(analysis: Analysis) -> dict[str, Any]:
    study, cells = analysis.tables.study, analysis.tables.cells
    verdict = answer(analysis)
    which = ["start", "method", "setting", "size", "seed", "step"]
    return {
        "study": {key: study.get(key) for key in ("name", "command", "created", "commit", "wall_s")},
        "metric": analysis.metric,
        "answer": {
            **dataclasses.asdict(verdict),
            "winner": None if verdict.winner is None else verdict.winner._asdict(),
            "settings": [] if verdict.winner is None else analysis.settings(verdict.winner),
        },
        "cells": {str(state): int(n) for state, n in cells["status"].value_counts().items()},
        "rankings": [_ranking(analysis, ranking) for ranking in analysis.rankings.values()],
        "behaviour": [
            {"split": split, **group._asdict(), "settings": analysis.settings(group), **_without_group(facts)}
            for split, found in analysis.behaviour.items()
            for group, facts in found.items()
        ],
        "properties": [
            {**Group(*group)._asdict(), "settings": analysis.settings(Group(*group)), **dataclasses.asdict(facts)}
            for group, facts in analysis.properties.items()
        ],
        "starts": starts.facts(analysis),
        "effects": [_effect(effect) for effect in analysis.effects.values()],
        "judged": [
            {key: each[key] for key in ("protocol", "judge", "study", "current", "pooled", "controls", "warnings")}
            for each in analysis.tables.judged
        ],
        "findings": list(analysis.findings),
        "diverged": cells.loc[cells["status"] == "diverged", [*which, "cause"]].to_dict("records"),
        "stopped": cells.loc[cells["status"] == "stopped", [*which, "validation", "needed"]].to_dict("records"),
        "missing": analysis.missing,
        "damages": analysis.tables.damages,
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        **effect.group._asdict(),
        "code": effect.code,
        "agreement": effect.agreement,
        "seeds": effect.seeds,
        "codes": effect.codes,
        "n_diverged": effect.n_diverged,
        "headline": effect.headline,
        "evidence": effect.diagnosis.evidence if effect.diagnoses else (),
        "remedies": effect.remedies,
        "changes": effect.changes,
        "answers": effect.answers,
        "gradients": effect.gradients,
    }


def _ranking(analysis: Analysis, ranking: Ranking) -> dict[str, Any]:
    return {
        "split": ranking.split,
        "start": ranking.start,
        "size": ranking.size,
        "n_items": ranking.n_items,
        "settled": ranking.settled,
        "start_point": ranking.baseline,
        "rows": [{**_row(row), "title": analysis.title(row.method)} for row in ranking.rows],
        "unranked": ranking.unranked,
    }


def _row(row: RankedMethod) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "separable": row.separable}


def _without_group(facts: Any) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(facts).items() if key != "group"}


def _plain(value: Any) -> Any:
    """Return JSON-like data: dataclasses as objects, tuples as lists, non-finite numbers as null, keys as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
