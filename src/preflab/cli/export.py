"""`preflab export-reward`: a study's reward model as a plain transformers folder."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from preflab.cli.study import Json


def export_reward(
    study: Path,
    out: Annotated[Path, Parameter(name=["OUT", "--out"])],
    *,
    start: str | None = None,
    seed: int | None = None,
    size: int | None = None,
    json_: Json = False,
) -> int:
    """Save a reward model that a study trained as a transformers folder, for any tool that reads such.

    Examples:
        preflab export-reward runs/my-study reward-model
        preflab export-reward runs/my-study reward-model --start sft --seed 1

    Args:
        study: folder of the study, or its study file.
        out: folder to make; it works as evaluate.reward or online.reward of another study.
        start: its start point, where several have a reward model.
        seed: of its training; default: the first.
        size: pairs it was trained on; default: the most.
        json_: print JSON.
    """
    from dataclasses import asdict

    from preflab.studies.export import export_reward_model
    from preflab.studies.study_file import study_folder

    found = export_reward_model(study_folder(study), out, start=start, seed=seed, size=size)
    if json_:
        print(json.dumps(asdict(found), indent=1))
        return 0
    print(found.folder)
    print(
        f"From {found.start}, {found.size:,} pairs, seed {found.seed}; {100 * found.accuracy:.1f} % of the validation "
        f"pairs in the right order. Scores of their responses: mean {found.score_mean:.3g}, deviation "
        f"{found.score_std:.3g}.",
        file=sys.stderr,
    )
    return 0
