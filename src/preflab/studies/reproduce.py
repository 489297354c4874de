"""Papers as recipes: a study file for every size, what it needs before, and the page of the paper's claims after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from preflab.core.errors import ConfigError, nearest
from preflab.report.analysis import analyse
from preflab.report.claims import Finding, insights, starpo, threed, write_claims
from preflab.report.load import load_tables
from preflab.studies.config import StudyConfig
from preflab.studies.scenarios import SCENARIOS, ScenarioData, make_scenarios
from preflab.studies.study_file import load_study
from preflab.studies.templates import template_path

Size = Literal["smoke", "pocket", "small", "paper"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A paper.

    Args:
        title: of the paper.
        source: how it is cited.
        scenarios: pairs to make first, by size; empty for a recipe of one study.
    """

    title: str
    source: str
    scenarios: Mapping[str, ScenarioData] = field(default_factory=dict)


_POCKET = ScenarioData(("arithmetic", "dialogue"), "pocket", "data", "data", None, 8, 24)
RECIPES: Mapping[str, Recipe] = {
    "insights": Recipe(insights.TITLE, insights.SOURCE),
    "starpo": Recipe(starpo.TITLE, starpo.SOURCE),
    "threed": Recipe(threed.TITLE, threed.SOURCE, {
        "smoke": replace(_POCKET, prompts=("dialogue",), samples=4, max_new_tokens=12, rows=100),
        "pocket": _POCKET,
        "small": ScenarioData(
            "constraints", "constraints", "other", "other", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 8, 192, 3000
        ),
        "paper": ScenarioData("study", "math", "data", "other", "Qwen/Qwen2.5-7B-Instruct", 8, 1024),
    }),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One study of a reproduction: its declaration and its folder."""

    config: StudyConfig
    folder: Path


def recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"preflab reproduce: there is no recipe {name!r}. {nearest(name, list(RECIPES))}")
    return RECIPES[name]


def steps(
    name: str,
    size: Size,
    folder: Path,
    overrides: Sequence[str],
    *,
    other: str | None = None,
    prompts: int | None = None,
    command: str,
    say: Callable[[str], None],
) -> list[Step]:
    """Return the studies of a reproduction in order; pairs that they need are made first.

    Args:
        name: of the recipe.
        size: `smoke`, `pocket`, `small` or `paper`.
        folder: where the reproduction lives.
        overrides: settings of the study, as in `preflab run --set`.
        other: whose answers are the pairs' sides that are not the model's own; None takes the recipe's.
        prompts: how many prompts pairs are made from; None takes the recipe's number.
        command: what was typed.
        say: called with a line of progress.

    Raises:
        ConfigError: no such recipe, or a setting that cannot be meant.
    """
    found, path = recipe(name), study_file(name, size)
    study = load_study(path, overrides)
    if not found.scenarios:
        if other is not None or prompts is not None:
            raise ConfigError(f"preflab reproduce: --other and --prompts are for threed; {name} has pairs in its data.")
        return [Step(study, folder)]
    data = found.scenarios[size]
    if other is not None and data.other is None:
        raise ConfigError(f"preflab reproduce: no side of the pairs of threed --{size} comes from another model.")
    data = replace(data, other=other or data.other, rows=data.rows if prompts is None else prompts)
    made = make_scenarios(data, study, folder / "pairs", command=command, say=say)
    return [
        Step(
            load_study(path, [*overrides, *own, "data.columns={}", f"study={name}-{size}-{scenario}"]),
            folder / scenario,
        )
        for scenario, own in made.items()
    ]


def study_file(name: str, size: Size) -> Path:
    """Return the study file behind a recipe."""
    recipe(name)
    return template_path(f"{name}-{size}.yaml")


def write_findings(name: str, folder: Path) -> tuple[Path, list[Finding]]:
    """Judge the paper's claims by the studies of a reproduction, write the page, and return it with the findings."""
    found = recipe(name)
    if found.scenarios:
        studies = {scenario: load_tables(folder / scenario) for scenario in SCENARIOS}
        findings, report = threed.findings(studies), "s1/report.html"
        facts = [f"Four studies, one for each scenario: {', '.join(f'{s}/report.html' for s in SCENARIOS)}."]
    else:
        tables = load_tables(folder)
        judge = {"insights": insights.findings, "starpo": starpo.findings}[name]
        findings, report = judge(analyse(tables)), "report.html"
        facts = [str(note) for note in tables.study.get("notes", [])]
    return write_claims(folder, found.title, found.source, findings, facts=facts, report=report), findings
