"""The commands of a study: init, plan, run, status, report, demo, train."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from preflab.core.errors import DataError

if TYPE_CHECKING:
    from preflab.report.index import Damage

Overrides = Annotated[list[str], Parameter(name="--set", negative=(), help="key=value; may be given several times.")]
Out = Annotated[Path | None, Parameter(name="--out", help="Folder of the study; default: runs/NAME.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print one JSON document instead of text.")]


_DAMAGES = 8


def init(
    path: Path = Path("study.yaml"),
    *,
    model: str | None = None,
    data: str | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a commented study file to start from.

    Examples:
        preflab init
        preflab init my-study.yaml --model HuggingFaceTB/SmolLM2-135M-Instruct --data pairs.jsonl

    Args:
        path: file to write.
        model: folder or Hub id of your model; without it the file is a study of the pocket world.
        data: file, folder or Hub id of your preference data.
        force: overwrite a file that is there.
    """
    from preflab.studies.templates import write_template

    write_template(path, model=model, data=data, force=force)
    print(path)
    print(f"Next: preflab plan {path}", file=sys.stderr)
    return 0


def plan(study: Path, *, set_: Overrides = [], out: Out = None, json_: Json = False) -> int:  # noqa: B006
    """Check a study and show what it would run and for how long; nothing is trained.

    Examples:
        preflab plan study.yaml
        preflab plan study.yaml --set methods.dpo.beta=0.3 --json

    Args:
        study: the study file.
        set_: values that replace those of the file.
        out: folder of the study.
        json_: print JSON.
    """
    from preflab.cli.console import print_plan
    from preflab.studies.execute import plan_json
    from preflab.studies.plan import make_plan
    from preflab.studies.study_file import load_study

    config = load_study(study, set_)
    document = plan_json(make_plan(config, out or Path("runs") / config.study))
    if json_:
        print(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        print_plan(document)
    return 0


def run(study: Path, *, set_: Overrides = [], out: Out = None, json_: Json = False) -> int:  # noqa: B006
    """Run a study; the same command continues it after a stop, and a grown study costs only its new cells.

    Examples:
        preflab run study.yaml
        preflab run study.yaml --set seeds=5

    Args:
        study: the study file.
        set_: values that replace those of the file.
        out: folder of the study.
        json_: print a summary as JSON.
    """
    from preflab.cli.console import execute_and_print
    from preflab.studies.study_file import load_study

    config = load_study(study, set_)
    return execute_and_print(config, out or Path("runs") / config.study, as_json=json_)


def status(
    study: Path,
    *,
    watch: Annotated[
        bool, Parameter(negative=(), help="Show it again every two seconds until the study ends.")
    ] = False,
    json_: Json = False,
) -> int:
    """Show how far a study is and what leads so far; works while another process runs it.

    Examples:
        preflab status runs/my-study
        preflab status runs/my-study --watch

    Args:
        study: folder of the study, or its study file.
        watch: show it again every two seconds until the study ends.
        json_: print JSON.
    """
    from preflab.cli.progress import print_status, watch_status
    from preflab.report.status import study_status
    from preflab.studies.study_file import study_folder

    folder = study_folder(study)
    if watch and not json_:
        watch_status(folder)
        return 0
    found = study_status(folder)
    if json_:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print_status(found)
    return DataError.exit_code if found["damages"] else 0


def report(
    study: Path,
    *,
    out: Annotated[
        Path | None, Parameter(name="--out", help="HTML file to write; default: report.html in the study.")
    ] = None,
    files: Path | None = None,
    json_: Json = False,
) -> int:
    """Write the report of a study as one HTML file, from its artefacts alone; half-finished studies are welcome.

    Examples:
        preflab report runs/my-study
        preflab report runs/my-study --files paper
        preflab report runs/my-study --json

    Args:
        study: folder of the study, or its study file.
        out: HTML file to write; default: report.html in the study.
        files: folder for every table as CSV, Parquet, LaTeX and Markdown and every figure as SVG, PDF and PNG.
        json_: print the summary as JSON instead of the path.
    """
    from preflab.report.files import write_files
    from preflab.report.load import load_tables
    from preflab.report.page import write_report
    from preflab.report.summary import summary
    from preflab.studies.study_file import study_folder

    folder = study_folder(study)
    tables = load_tables(folder)
    path = write_report(tables, out or folder / "report.html")
    if files is not None:
        print(write_files(tables, files), file=sys.stderr if json_ else sys.stdout)
    print(json.dumps(summary(tables), ensure_ascii=False, indent=1) if json_ else path)
    return _said(folder, tables.damages)


def _said(folder: Path, damages: "Sequence[Damage]") -> int:
    """Print what of a study is damaged and return the exit code."""
    for damage in damages[:_DAMAGES]:
        print(f"damaged: {folder / damage.where}: {damage.what}; left out: {damage.lost}", file=sys.stderr)
    if len(damages) > _DAMAGES:
        print(f"and {len(damages) - _DAMAGES} more; the report lists them all", file=sys.stderr)
    return DataError.exit_code if damages else 0


def demo(*, out: Out = None, json_: Json = False) -> int:
    """Run a whole study offline in minutes: 8 methods, 3 start points, 2 seeds in the pocket world.

    Examples:
        preflab demo

    Args:
        out: folder of the study; default: runs/demo.
        json_: print a summary as JSON.
    """
    from preflab.cli.console import execute_and_print
    from preflab.studies.study_file import load_study
    from preflab.studies.templates import template_path

    config = load_study(template_path("demo.yaml"))
    return execute_and_print(config, out or Path("runs") / config.study, as_json=json_)


def train(
    model: str,
    data: str,
    *,
    method: str = "dpo",
    set_: Overrides = [],  # noqa: B006
    out: Out = None,
    json_: Json = False,
) -> int:
    """Train one model with one method: a study of one cell, with the same checks, evaluation and report.

    Examples:
        preflab train HuggingFaceTB/SmolLM2-135M-Instruct pairs.jsonl --method dpo
        preflab train pocket:base pocket:pairs --method simpo --set methods.simpo.learning_rate=3e-4

    Args:
        model: Hub id, folder or pocket:base.
        data: file, folder, Hub id or pocket:pairs.
        method: name of a method, or path/to/file.py:NAME.
        set_: any key of a study file, such as train.epochs=2.
        out: folder of the study.
        json_: print a summary as JSON.
    """
    from preflab.cli.console import execute_and_print
    from preflab.studies.templates import single_cell

    config = single_cell(model, data, method, set_)
    return execute_and_print(config, out or Path("runs") / config.study, as_json=json_)
