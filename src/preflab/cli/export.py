"""`preflab export` and `export-reward`: a study's models as plain folders that transformers and PEFT load."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from preflab.cli.study import Json


def export(
    study: Path,
    *,
    best: Annotated[bool, Parameter(negative=(), help="The model that the report puts first.")] = False,
    cell: Annotated[str | None, Parameter(help="Id of a cell instead.")] = None,
    out: Annotated[Path | None, Parameter(name="--out", help="Folder to make; default: in the study.")] = None,
    merge: Annotated[bool, Parameter(negative=(), help="Fold an adapter into its base.")] = False,
    json_: Json = False,
) -> int:
    """Save a trained model with tokenizer, generation settings and a model card; transformers or PEFT load the folder.

    The best model is that of the report's first method; of its seeds, the one that validation prefers.

    Examples:
        preflab export runs/my-study --best
        preflab export runs/my-study --best --merge --out my-model
        preflab export runs/my-study --cell 8db36e29c818

    Args:
        study: folder of the study, or its study file.
        best: export the model that the report puts first.
        cell: export this cell instead.
        out: folder to make.
        merge: fold an adapter into its base.
        json_: print JSON.
    """
    from dataclasses import asdict

    from preflab.core.errors import ConfigError
    from preflab.studies.export_model import export_model
    from preflab.studies.index import command_line
    from preflab.studies.study_file import study_folder

    if best == (cell is not None):
        raise ConfigError("preflab export: say which model, with --best or with --cell ID.")
    found = export_model(study_folder(study), out, cell=cell, merged=merge, command=command_line())
    if json_:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return 0
    print(found.folder)
    print(" ".join(filter(None, found.reasons)), file=sys.stderr)
    return 0


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
