"""The four scenarios of "3D-Properties": pairs whose sides come from the model itself or from elsewhere.

References:
    Yan et al., 2024, arXiv:2406.07327, section 5: S1 both sides from the model, S2 the chosen one from elsewhere,
    S3 the rejected one, S4 both.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from preflab.core.errors import DataError
from preflab.data.pairs import CurationSettings
from preflab.data.read import read
from preflab.evals.constraints import constraint_prompts
from preflab.pocket.assets import data_path
from preflab.store.artefacts import write_text
from preflab.studies.answers import Settings
from preflab.studies.config import StudyConfig
from preflab.studies.names import data_source
from preflab.studies.pairs import Origin, Request, make_pairs

MOST_CONSTRAINTS = 3
"""Of a constraint prompt: small models keep few."""

SCENARIOS: Mapping[str, tuple[bool, bool]] = {
    "s1": (True, True), "s2": (False, True), "s3": (True, False), "s4": (False, False),
}  # fmt: skip
"""Whether the chosen and the rejected response are the model's own."""


@dataclass(frozen=True, slots=True)
class ScenarioData:
    """Where the pairs of a recipe come from.

    Args:
        prompts: families of the pocket world's prompts, whose off-policy pairs are used; `study` for the prompts and
            better responses of the study's `data.train`; `constraints` for prompts that `preflab data constraints`
            writes.
        reward: what scores answers.
        chosen_from: where chosen responses come from that are not the model's own.
        rejected_from: the same of rejected ones.
        other: the other model, where they are another model's.
        samples: answers to each prompt.
        max_new_tokens: of an answer.
        rows: first prompts to use; None uses all.
    """

    prompts: tuple[str, ...] | Literal["study", "constraints"]
    reward: str
    chosen_from: Literal["data", "other"]
    rejected_from: Literal["data", "other"]
    other: str | None
    samples: int
    max_new_tokens: int
    rows: int | None = None


def make_scenarios(
    data: ScenarioData, study: StudyConfig, folder: Path, *, command: str, say: Callable[[str], None]
) -> dict[str, list[str]]:
    """Write the pairs of every scenario over the prompts that all of them have, and return overrides for their studies.

    What is there already is not made again.

    Args:
        data: where pairs come from.
        study: what the pairs are for: its base model, and its training data.
        folder: gets the files.
        command: what was typed.
        say: called with a line of progress.

    Raises:
        ConfigError: a model or a reward that cannot be had.
        DataError: prompts that need mending, or no prompt that has a pair in every scenario.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared, prompts = [], str(folder / "prompts.jsonl")
    if data.prompts == "study":
        _write(folder / "prompts.jsonl", _own(study))
    elif data.prompts == "constraints":
        assert data.rows is not None
        _write(folder / "prompts.jsonl", constraint_prompts(data.rows, most=MOST_CONSTRAINTS, seed=0))
    else:
        for split, name in (("pairs_off", "prompts"), ("validation", "validation"), ("test", "test")):
            kept = (row for row in _rows(Path(data_path(split))) if row["family"] in data.prompts)
            _write(folder / f"{name}.jsonl", kept)
        shared = [f"data.{name}={folder / name}.jsonl" for name in ("validation", "test")]
    settings = Settings(
        samples=data.samples, max_new_tokens=data.max_new_tokens, batch_size=64, seed=0, engine="transformers",
        template="auto",
    )  # fmt: skip
    for name, (own_chosen, own_rejected) in SCENARIOS.items():
        chosen: Origin = "model" if own_chosen else data.chosen_from
        rejected: Origin = "model" if own_rejected else data.rejected_from
        say(f"pairs of {name.upper()}: chosen from {chosen}, rejected from {rejected}")
        request = Request(
            model=str(study.models.base), prompts=prompts, reward=data.reward,
            curation=CurationSettings(name="best-worst"), chosen=chosen, rejected=rejected,
            other=data.other if "other" in (chosen, rejected) else None,
            settings=settings, search=None, rows=data.rows,
            noise=0.0, ches_below=None, split="train", columns={}, exclude=(),
        )  # fmt: skip
        make_pairs(request, folder / f"all-{name}.jsonl", command=command, say=say)
    n = _same_prompts(folder)
    say(f"{n} prompts have a pair in all four scenarios")
    # The pairs have columns of our own names.
    return {name: [f"data.train={folder / name}.jsonl", "data.columns={}", *shared] for name in SCENARIOS}


def _own(study: StudyConfig) -> Iterable[dict[str, Any]]:
    """Yield the prompts of a study's training data with their better responses."""
    source = data_source(study.data.train)
    found = read(source.path, split=source.split, subset=source.subset, revision=source.revision,
                 columns=study.data.columns)  # fmt: skip
    for example in found.examples:
        yield {"prompt": example.prompt, "completion": example.chosen, "meta": dict(example.meta)}


def _same_prompts(folder: Path) -> int:
    """Keep the prompts that have a pair in every scenario, so that scenarios differ in their responses alone."""
    found = {name: list(_rows(folder / f"all-{name}.jsonl")) for name in SCENARIOS}
    by_prompt = {name: {json.dumps(row["prompt"]): row for row in own} for name, own in found.items()}
    common = [prompt for prompt in by_prompt["s1"] if all(prompt in own for own in by_prompt.values())]
    if not common:
        raise DataError(f"{folder}: no prompt has a pair in all four scenarios; ask for more samples or more prompts.")
    for name, own in by_prompt.items():
        _write(folder / f"{name}.jsonl", (own[prompt] for prompt in common))
    return len(common)


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # A file that has not changed keeps its time, so that nothing looks newer than what was made from it.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
