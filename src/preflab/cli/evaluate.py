"""`preflab eval` and `preflab compare`: benchmarks on any model, with error bars and paired tests."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from preflab.cli.study import Json

Profile = Literal["quick", "standard", "paper"]
Template = Literal["auto", "none"]
Precision = Literal["float32", "bfloat16", "float64"]
Names = Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)]


def evaluate(
    *models: str,
    benchmarks: Names = ("thirteen",),
    profile: Profile = "quick",
    data_dir: Path | None = None,
    template: Template = "auto",
    dtype: Precision = "float32",
    batch_size: int = 16,
    allow_remote_code: Names = (),
    out: Path = Path("runs/benchmarks"),
    json_: Json = False,
) -> int:
    """Score models on benchmarks: folders, adapters, Hub ids, wherever they were trained.

    What was scored before is not scored again, so a stopped command continues and a further model costs only itself.

    Examples:
        preflab eval HuggingFaceTB/SmolLM2-135M-Instruct ./my-dpo-adapter
        preflab eval ./model --benchmarks gsm8k ifeval --profile standard

    Args:
        models: model folders, PEFT adapters, Hub ids, pocket models, or folders that this command wrote.
        benchmarks: names, as `preflab data benchmarks` lists them; thirteen and all stand for several.
        profile: quick (100 items, no worked examples), standard (500, as the literature shows them), paper (all).
        data_dir: folder with the benchmark files; `preflab data benchmarks` shows where they are looked for.
        template: auto (instructions go through the model's chat template) or none.
        dtype: of weights and activations.
        batch_size: prompts decoded together.
        allow_remote_code: models, as named, whose own Python code may run; think twice.
        out: folder for tables and page.
        json_: print JSON.
    """
    return _run(
        models, benchmarks, profile, data_dir, template, dtype, batch_size, allow_remote_code, out, json_, least=1
    )


def compare(
    *models: str,
    benchmarks: Names = ("thirteen",),
    profile: Profile = "quick",
    data_dir: Path | None = None,
    template: Template = "auto",
    dtype: Precision = "float32",
    batch_size: int = 16,
    allow_remote_code: Names = (),
    out: Path = Path("runs/benchmarks"),
    json_: Json = False,
) -> int:
    """Compare models with the first one, item by item on the same benchmarks.

    Scores that differ in more than the weights (items, prompts, template, precision) are refused, with what differs.

    Examples:
        preflab compare base-model ./dpo-model ./kto-model
        preflab compare runs/monday runs/tuesday --out runs/both

    Args:
        models: model folders, PEFT adapters, Hub ids, pocket models, or folders that `preflab eval` wrote.
        benchmarks: names, as `preflab data benchmarks` lists them; thirteen and all stand for several.
        profile: quick (100 items, no worked examples), standard (500, as the literature shows them), paper (all).
        data_dir: folder with the benchmark files; `preflab data benchmarks` shows where they are looked for.
        template: auto (instructions go through the model's chat template) or none.
        dtype: of weights and activations.
        batch_size: prompts decoded together.
        allow_remote_code: models, as named, whose own Python code may run; think twice.
        out: folder for tables and page.
        json_: print JSON.
    """
    return _run(
        models, benchmarks, profile, data_dir, template, dtype, batch_size, allow_remote_code, out, json_, least=2
    )


def _run(
    models: tuple[str, ...],
    benchmarks: tuple[str, ...],
    profile: str,
    data_dir: Path | None,
    template: Template,
    dtype: str,
    batch_size: int,
    allow_remote_code: tuple[str, ...],
    out: Path,
    json_: bool,
    *,
    least: int,
) -> int:
    import shlex

    from preflab.core.errors import ConfigError
    from preflab.report.benchmarks import difference_rows, headline, score_rows
    from preflab.studies.benchmarks import Request, run_benchmarks

    if len(models) < least:
        wanted = "a model, such as preflab eval MODEL" if least == 1 else "two models or more, the baseline first"
        raise ConfigError(f"name {wanted}.")
    if batch_size < 1:
        raise ConfigError(f"--batch-size: must be at least 1; got {batch_size}.")
    if unknown := [name for name in allow_remote_code if name not in models]:
        raise ConfigError(f"--allow-remote-code: {unknown[0]!r} is none of the models of this command.")
    request = Request(
        models=models,
        benchmarks=benchmarks,
        profile=profile,
        data_dir=None if data_dir is None else str(data_dir),
        template=template,
        dtype=dtype,
        batch_size=batch_size,
        allow_remote_code=allow_remote_code,
    )
    command = shlex.join(["preflab", *sys.argv[1:]])
    path, results = run_benchmarks(
        request, out, command=command, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    differences = results.differences()
    if json_:
        document: dict[str, Any] = {
            "report": str(path), "scores": score_rows(results), "differences": difference_rows(differences),
            "missing": results.index["missing"],
        }  # fmt: skip
        print(json.dumps(document, indent=1))
        return 0
    _print(results, differences)
    for name, found in differences.items():
        print(headline(name, found))
    print(path)
    return 0


def _print(results: Any, differences: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, caption="percent, with 95 % intervals", caption_justify="left")
    table.add_column("benchmark")
    table.add_column("items", justify="right")
    for model in results.models:
        table.add_column(model.name, justify="right")
    for of in results.benchmarks:
        cells, n = [], 0
        for model in results.models:
            found = results.score(model, of)
            if found is None:
                cells.append("–")
                continue
            n = len(model.scored[of.name].records)
            mark = next(
                ({"better": " ▲", "worse": " ▼"}.get(each.verdict, "") for each in differences.get(model.name, ())
                 if each.benchmark.name == of.name), "",
            )  # fmt: skip
            bounds = f"{100 * found.interval.low:.0f}–{100 * found.interval.high:.0f}"
            cells.append(f"{100 * found.interval.estimate:.1f} ({bounds}){mark}")
        table.add_row(f"{of.title}, {of.metric}", f"{n:,}", *cells)
    Console(highlight=False).print(table)
