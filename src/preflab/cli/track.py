"""`preflab track`: a study's runs in an experiment tracker."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from preflab.cli.study import Json


def track(
    study: Path,
    *,
    to: Annotated[str, Parameter(help="tensorboard, wandb or trackio.")],
    out: Annotated[Path | None, Parameter(name="--out", help="Folder for its files; default: in the study.")] = None,
    project: Annotated[str | None, Parameter(help="W&B or Trackio project; default: the study's name.")] = None,
    json_: Json = False,
) -> int:
    """Write finished cells as runs of a tracker: curves, settings, scores with intervals; later only new ones.

    Nothing is sent anywhere unless your environment says WANDB_MODE=online.

    Examples:
        preflab track runs/my-study --to tensorboard
        preflab track runs/my-study --to wandb --project alignment

    Args:
        study: folder of the study, or its study file.
        to: the tracker.
        out: folder for its files.
        project: W&B or Trackio project.
        json_: print JSON.
    """
    from dataclasses import asdict

    from preflab.report.trackers import track as write
    from preflab.studies.study_file import study_folder

    found = write(study_folder(study), to, out, project=project)
    if json_:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return 0
    print(found.folder)
    print(f"{len(found.new)} runs written, {found.n_known} were there already.", file=sys.stderr)
    following = {
        "tensorboard": f"tensorboard --logdir {found.folder}",
        "trackio": f"TRACKIO_DIR={found.folder} trackio show",
        "wandb": f"wandb sync {found.folder}/wandb/offline-run-* (sends them)",
    }
    print(f"Next: {following[to]}", file=sys.stderr)
    return 0
