"""What the study commands print: stdout carries the result, stderr the progress; plain lines where there is no TTY."""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from preflab.studies.config import StudyConfig
    from preflab.studies.plan import Plan
    from preflab.studies.run import State

_PLAIN_EVERY_S = 15.0


def duration(seconds: float) -> str:
    """Return `42 s`, `3 min 20 s` or `2 h 5 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def print_plan(document: dict[str, Any], console: Console | None = None) -> None:
    """Print a plan: what was detected, stages with tokens and time, what is there already, notes."""
    console = console or Console(highlight=False)
    data = document["data"]
    for name, detected in data["detected"].items():
        console.print(f"{escape(name)}: {escape(detected)}")
    console.print("splits: " + ", ".join(f"{name} {n}" for name, n in data["splits"].items()) + " rows")
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for stage in document["stages"]:
        rows[stage["kind"]].append(stage)
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "count", "there", "tokens", "time (one worker)"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for kind, stages in rows.items():
        tokens = sum(s["train_tokens"] + s["score_tokens"] + s["generate_tokens"] for s in stages)
        left = sum(s["seconds"] for s in stages if not s["done"])
        table.add_row(kind, str(len(stages)), str(sum(s["done"] for s in stages)), f"{tokens:,}", duration(left))
    console.print(table)
    if undecided := ", ".join(f"{n} {kind}" for kind, n in document["undecided"].items()):
        console.print(f"and what validation will decide on, about {undecided}; the time below includes it")
    left, workers = duration(document["seconds_left"]), document["workers"]
    cells = _count(document["cells"], "cell")
    side_by_side = f", up to {document['most_fused']} cells in one" if document["most_fused"] > 1 else ""
    console.print(
        f"each worker: {document['token_budget']:,} tokens in a forward and backward{side_by_side}, "
        f"about {document['worker_bytes'] / 2**30:.1f} GiB"
        + (", layers computed again in the backward pass" if document["recompute"] else "")
    )
    console.print(f"{cells}; about {left} left with {_count(workers, 'worker')}, in {document['folder']}")
    for note in document["notes"]:
        console.print(f"note: {escape(note)}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def execute_and_print(config: "StudyConfig", folder: Path, *, as_json: bool, quiet: bool = False) -> int:
    """Run a study, showing progress on stderr; print the path of its report, or a summary, on stdout unless `quiet`.

    Returns:
        0 when every stage finished (diverged cells are a result), 4 when some failed.
    """
    from preflab.studies.processes import warm_up

    warm_up()  # before this process imports what takes seconds: the workers do the same beside it
    from preflab.studies.execute import execute
    from preflab.studies.index import command_line

    console = Console(stderr=True, highlight=False)
    with _Progress(console) as progress:
        finished = execute(config, folder, command=command_line(), planned=progress.planned, watch=progress.watch)
    for stage, error in finished.state.failed.items():
        console.print(f"failed: {stage[:12]}: {escape(error.splitlines()[0])}", style="red")
    console.print(
        f"{len(finished.state.done)} stages done, {len(finished.state.failed)} failed, {progress.spent} spent"
    )
    for model in finished.models if len(finished.models) == 1 else []:
        console.print(f"model: {model}")
    if finished.n_diverged:
        console.print(f"{finished.n_diverged} cells diverged; the report says which, when and why.")
    if not quiet:
        for title, line in zip(("Answer: ", "Next: ", ""), finished.said, strict=False):
            console.print(f"[bold]{title}[/bold]{escape(line)}")
    if as_json:
        from preflab.report.load import load_tables
        from preflab.report.summary import summary

        print(json.dumps(summary(load_tables(folder)), ensure_ascii=False, indent=1))
    elif not quiet:
        print(finished.report)
    return 4 if finished.state.failed else 0


class _Progress:
    """A live table on a terminal, a line every few seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        self._last = 0.0
        self._began = time.monotonic()

    def __enter__(self) -> "_Progress":
        self._console.print("reading data and measuring this machine ...")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def spent(self) -> str:
        """Time since the start, for people."""
        return duration(time.monotonic() - self._began)

    def planned(self, plan: "Plan") -> None:
        """Show the plan before the work."""
        from preflab.studies.execute import plan_json

        print_plan(plan_json(plan), self._console)
        sys.stderr.flush()
        if self._live is not None:
            self._live.start()

    def watch(self, state: "State") -> None:
        """Show where the run stands."""
        left = duration(state.left_s)
        line = f"{len(state.done)} of {state.total} stages, {self.spent} spent, about {left} left"
        if state.failed:
            line += f", {len(state.failed)} failed"
        if self._live is not None:
            table = Table.grid()
            table.add_row(line)
            for label in state.running:
                table.add_row(f"  {escape(label)}")
            self._live.update(table)
        elif time.monotonic() - self._last > _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self._console.print(f"{line}; now: {escape(state.running[0])}" if state.running else line)
