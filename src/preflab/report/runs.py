"""A study's cells as the runs that experiment trackers know: settings, curves, final numbers, responses."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from preflab.core.ids import content_id
from preflab.report.analysis import SPLITS
from preflab.report.tables import StudyTables, clusters_of, completed, item_table
from preflab.stats.intervals import mean_interval

Curves = Mapping[int, Mapping[str, float]]
"""Step to the values known there, by name."""

_PLACES = ("cell", "step", "n", "n_rows", "kept", "peak_step", "pairs_seen")
_SCORES = ("accuracy", "reward", "kl_k3", "n_tokens")
_FACTS = ("validation", "train_s", "evaluate_s", "tokens", "n_steps", "examples", "step")
_SHOWN = ("split", "row", "family", "prompt", "chosen", "rejected", "response", "n_tokens", "kl_k3", "reward")


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """One cell, or a start point, outside of preflab.

    Args:
        id: the same whenever the same cell of the same study is written.
        name: for people.
        group: the study's name.
        settings: hyper-parameters and what else distinguishes cells.
        curves: what was measured during training; of a start point nothing.
        final: means on held-out prompts with `_low` and `_high` (95 %, over prompts), and costs.
        responses: what it answered; with `step` where it was asked on the way through its training too.
    """

    id: str
    name: str
    group: str
    settings: Mapping[str, str | float]
    curves: Curves
    final: Mapping[str, float]
    responses: pd.DataFrame

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        curves = {str(step): dict(values) for step, values in self.curves.items()}
        responses = self.responses.to_json(orient="split")
        return content_id([self.id, self.name, self.group, dict(self.settings), curves, dict(self.final), responses])


def tracked_runs(tables: StudyTables) -> Iterator[TrackedRun]:
    """Yield the finished and diverged cells of a study and its start points.

    Args:
        tables: the study.
    """
    full = completed(tables)
    study = str(full.study.get("name") or "study")
    parts = {
        name: dict(list(getattr(full, name).groupby("cell")))
        for name in ("log", "dynamics", "pairs", "responses", "snapshots")
    }
    for cell in full.cells.to_dict("records"):
        own = {name: frames.get(cell["cell"], getattr(full, name).iloc[:0]) for name, frames in parts.items()}
        if cell["status"] not in ("done", "diverged"):
            continue
        settings = _settings(cell)
        yield TrackedRun(
            id=content_id([study, cell["cell"]])[:16],
            name=" ".join(map(str, filter(None, _named(cell)))),
            group=study,
            settings=settings,
            curves=_curves(own["log"], own["dynamics"], own["snapshots"]),
            final=_final(replace(full, pairs=own["pairs"], responses=own["responses"]), cell),
            responses=_answers(own["responses"], own["snapshots"], cell["n_steps"]),
        )


def file_name(run: TrackedRun) -> str:
    """Return a name for a run's folder on any file system."""
    return f"{re.sub(r'[^A-Za-z0-9._+=-]+', '-', run.name)[:80].strip('.-')}-{run.id[:6]}"


def _named(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    if not cell["method"]:
        return "start point", cell["start"]
    return cell["start"], cell["method"], cell["size"], f"seed{cell['seed']}", cell["setting"]


def _settings(cell: Mapping[str, Any]) -> dict[str, str | float]:
    found: dict[str, Any] = {
        name: cell[name] for name in ("start", "method", "size", "seed", "learning_rate", "status")
    }
    own = cell["hyperparameters"]
    found |= {f"{cell['method']}.{name}": value for name, value in own.items()} if isinstance(own, Mapping) else {}
    known = {name: value for name, value in found.items() if not (isinstance(value, float) and math.isnan(value))}
    return {name: value if isinstance(value, str | int | float) else str(value) for name, value in known.items()}


def _answers(responses: pd.DataFrame, snapshots: pd.DataFrame, n_steps: float) -> pd.DataFrame:
    """Return the responses, after those of earlier steps where there are such."""
    final = responses[[name for name in _SHOWN if name in responses]]
    if snapshots.empty:
        return final.reset_index(drop=True)
    of_prompt = [name for name in ("split", "row", "family", "prompt", "chosen", "rejected") if name in final]
    earlier = snapshots[["step", "split", "row", "response", "n_tokens", "reward"]].merge(final[of_prompt])
    both = pd.concat([earlier, final.assign(step=n_steps)], ignore_index=True)
    return both[["step", *final.columns]].astype({"step": int})


def _curves(log: pd.DataFrame, dynamics: pd.DataFrame, snapshots: pd.DataFrame) -> Curves:
    """Return values by the optimizer steps that were done when they were measured."""
    found: dict[int, dict[str, float]] = {}
    for prefix, frame in (("train", log), ("validation", dynamics)):
        numbers = frame.drop(columns=[name for name in _PLACES if name in frame]).select_dtypes("number")
        for step, row in zip(frame["step"], numbers.to_dict("records"), strict=True):
            values = {f"{prefix}/{name}": float(value) for name, value in row.items() if math.isfinite(value)}
            found.setdefault(int(step), {}).update(values)
    for step, answers in snapshots.groupby("step")[["reward", "n_tokens"]].mean().iterrows():
        values = {f"snapshots/{name}": float(value) for name, value in answers.items() if math.isfinite(value)}
        found.setdefault(int(step), {}).update(values)
    return dict(sorted(found.items()))


def _final(tables: StudyTables, cell: Mapping[str, Any]) -> dict[str, float]:
    found = {f"cell/{name}": float(cell[name]) for name in _FACTS if math.isfinite(float(cell[name] or 0))}
    for split in SPLITS:
        for column in _SCORES:
            wide, facts, _ = item_table(tables, split, column, pd.Series([cell["cell"]]))
            if cell["cell"] not in wide or wide.empty:
                continue
            interval = mean_interval(wide[cell["cell"]].to_numpy(), clusters=clusters_of(facts))
            bounds = {"": interval.estimate, "_low": interval.low, "_high": interval.high}
            found |= {f"{split}/{column}{end}": float(value) for end, value in bounds.items() if math.isfinite(value)}
    return found
