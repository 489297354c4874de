"""`preflab eval` and `preflab compare`: benchmarks on any model, with error bars and paired tests."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

_Names = Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How models are scored.

    Args:
        benchmarks: names, as `preflab data benchmarks` lists them; thirteen and all stand for several.
        profile: quick (100 items, no worked examples), standard (500, as the literature shows them), paper (all).
        data_dir: folder with the benchmark files; `preflab data benchmarks` shows where they are looked for.
        template: auto (instructions go through the model's chat template) or none.
        scorer: native, or lm-eval (the extra of that name, in a process of its own) for the benchmarks that it has.
        dtype: of weights and activations.
        batch_size: prompts decoded together.
        allow_remote_code: models, as named, whose own Python code may run; think twice.
        out: folder for tables and page.
        json_: print JSON.
    """

    benchmarks: _Names = ("thirteen",)
    profile: Literal["quick", "standard", "paper"] = "quick"
    data_dir: Path | None = None
    template: Literal["auto", "none"] = "auto"
    scorer: Literal["native", "lm-eval"] = "native"
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    batch_size: int = 16
    allow_remote_code: _Names = ()
    out: Path = Path("runs/benchmarks")
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False


_DEFAULTS = Options()


def evaluate(*models: str, options: Options = _DEFAULTS) -> int:
    """Score models on benchmarks: folders, adapters, Hub ids, wherever they were trained.

    What was scored before is not scored again, so a stopped command continues and a further model costs only itself.

    Examples:
        preflab eval HuggingFaceTB/SmolLM2-135M-Instruct ./my-dpo-adapter
        preflab eval ./model --benchmarks gsm8k ifeval --profile standard

    Args:
        models: model folders, PEFT adapters, Hub ids, pocket models, or folders that this command wrote.
        options: how they are scored.
    """
    return _run(models, options, least=1)


def compare(*models: str, options: Options = _DEFAULTS) -> int:
    """Compare models with the first one, item by item on the same benchmarks.

    Scores that differ in more than the weights (items, prompts, template, precision) are refused, with what differs.

    Examples:
        preflab compare base-model ./dpo-model ./kto-model
        preflab compare runs/monday runs/tuesday --out runs/both

    Args:
        models: model folders, PEFT adapters, Hub ids, pocket models, or folders that `preflab eval` wrote.
        options: how they are scored.
    """
    return _run(models, options, least=2)


def _run(models: tuple[str, ...], options: Options, *, least: int) -> int:
    import shlex

    from preflab.core.errors import ConfigError
    from preflab.report.benchmarks import difference_rows, headline, score_rows
    from preflab.studies.benchmarks import Request, run_benchmarks

    results_of_several = least == 2 and len(models) == 1 and (Path(models[0]).expanduser() / "benchmarks.json").exists()
    if len(models) < least and not results_of_several:
        wanted = "a model, such as preflab eval MODEL" if least == 1 else "two models or more, the baseline first"
        raise ConfigError(f"name {wanted}.")
    if options.batch_size < 1:
        raise ConfigError(f"--batch-size: must be at least 1; got {options.batch_size}.")
    if unknown := [name for name in options.allow_remote_code if name not in models]:
        raise ConfigError(f"--allow-remote-code: {unknown[0]!r} is none of the models of this command.")
    request = Request(
        models=models,
        benchmarks=options.benchmarks,
        profile=options.profile,
        data_dir=None if options.data_dir is None else str(options.data_dir),
        template=options.template,
        scorer=options.scorer,
        dtype=options.dtype,
        batch_size=options.batch_size,
        allow_remote_code=options.allow_remote_code,
    )
    command = shlex.join(["preflab", *sys.argv[1:]])
    path, results = run_benchmarks(
        request, options.out, command=command, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    differences = results.differences()
    if options.json_:
        document: dict[str, Any] = {
            "report": str(path), "scores": score_rows(results), "differences": difference_rows(differences),
            "missing": results.index["missing"],
        }  # fmt: skip
        print(json.dumps(document, indent=1))
        return 0
    _print(results, differences)
    for name, found in differences.items():
        print(headline(name, results.models[0].name, found))
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
    marks = {
        (name, each.benchmark.name): {"better": " ▲", "worse": " ▼"}.get(each.verdict, "")
        for name, found in differences.items()
        for each in found
    }
    for of in results.benchmarks:
        n = max(len(model.scored[of.name].records) for model in results.models if of.name in model.scored)
        cells = []
        for model in results.models:
            found = results.score(model, of)
            if found is None:
                cells.append("–")
                continue
            bounds = f"{100 * found.interval.low:.0f}–{100 * found.interval.high:.0f}"
            cells.append(f"{100 * found.interval.estimate:.1f} ({bounds}){marks.get((model.name, of.name), '')}")
        table.add_row(f"{of.title}, {of.metric}", f"{n:,}", *cells)
    Console(highlight=False).print(table)
