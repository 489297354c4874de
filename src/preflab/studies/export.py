"""A study's reward model as a plain transformers folder, for other studies and other tools."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError
from preflab.evals.value_heads import load_head, save_classifier
from preflab.models.checkpoints import lone_checkpoint
from preflab.models.load import load_tokenizer, quiet
from preflab.report.index import load_index
from preflab.store.artefacts import committed_folder, read_artefact, verify


@dataclass(frozen=True, slots=True)
class Exported:
    """A reward model outside of its study.

    Args:
        folder: where it is now.
        start: start point it was trained from.
        size: pairs it was trained on.
        seed: of its training.
        accuracy: share of validation pairs in the right order.
        score_mean: of the validation responses; a study takes it off.
        score_std: their deviation; a study divides by it.
    """

    folder: str
    start: str
    size: int
    seed: int
    accuracy: float
    score_mean: float
    score_std: float


def export_reward_model(
    study: Path, out: Path, *, start: str | None = None, seed: int | None = None, size: int | None = None
) -> Exported:
    """Save a reward model that a study trained as a sequence classifier with one output.

    Args:
        study: folder of the study.
        out: folder to make.
        start: its start point; needed where several have one.
        seed: of its training; default: the first.
        size: pairs it was trained on; default: the most.

    Raises:
        ConfigError: there is none, more than one fits, `out` is there already, or no classifier can hold it.
        StoreError: its artefact is damaged.
    """
    quiet()
    if out.exists():
        raise ConfigError(f"{out}: is there already; name a new folder.")
    cell = _cell(study, start, seed, size)
    artefact = read_artefact(study / cell["judge"])
    verify(artefact.path)
    folder = artefact.file("model")
    head = load_head(folder, "cpu")
    checkpoint = lone_checkpoint(str(folder))
    model = checkpoint.load(dtype=str(artefact.spec["numeric"]["dtype"]), device="cpu")
    with committed_folder(out, replace=False) as temporary:
        save_classifier(model, head, load_tokenizer(folder), temporary)
    info = artefact.info
    return Exported(
        str(out), cell["start"], cell["size"], cell["seed"], info["accuracy"], info["score_mean"], info["score_std"]
    )


def _cell(study: Path, start: str | None, seed: int | None, size: int | None) -> Mapping[str, Any]:
    """Return the record of a cell behind which the reward model that is meant stands."""
    judged = [cell for cell in load_index(study).cells if cell.get("judge")]
    if not judged:
        raise ConfigError(
            f"{study}: it trained no reward model; that needs a method with own answers and online.reward: model."
        )
    wanted = {
        "start": start,
        "seed": min(cell["seed"] for cell in judged) if seed is None else seed,
        "size": max(cell["size"] for cell in judged) if size is None else size,
    }
    found = {cell["judge"]: cell for cell in judged if all(v in (None, cell[k]) for k, v in wanted.items())}
    if len(found) == 1:
        return next(iter(found.values()))
    there = ", ".join(dict.fromkeys(f"--start {c['start']} --seed {c['seed']} --size {c['size']}" for c in judged))
    what = "more than one reward model fits" if found else "no reward model fits"
    raise ConfigError(f"{study}: {what}; there are: {there}.")
