"""What `preflab status` prints: how far, until when, which method leads, what went wrong."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from preflab.cli.console import duration
from preflab.core.texts import without_controls
from preflab.report.status import study_status

_STATES = {"running": "bold cyan", "stopped": "bold yellow", "complete": "bold green"}
_TROUBLES = 8
_EVERY_S = 2.0


def print_status(found: dict[str, Any]) -> None:
    """Print how far a study is."""
    Console(highlight=False).print(_page(found))


def watch_status(folder: Path) -> None:
    """Print how far a study is again and again until no process runs it."""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = study_status(folder)
            live.update(_page(found), refresh=True)
            if found["state"] != "running":
                return
            time.sleep(_EVERY_S)


def _safe(value: Any) -> Any:
    """Return a value whose texts cannot steer the terminal: a study folder may come from anywhere."""
    if isinstance(value, str):
        return without_controls(value)
    if isinstance(value, dict):
        return {_safe(key): _safe(each) for key, each in value.items()}
    return [_safe(each) for each in value] if isinstance(value, list | tuple) else value


def _page(status: dict[str, Any]) -> RenderableType:
    found = _safe(status)
    parts: list[RenderableType] = [_head(found), _bar(found)]
    if found["methods"]:
        parts.append(_methods(found["methods"]))
    parts += [_facts(found)]
    return Group(*parts)


def _head(found: dict[str, Any]) -> Text:
    text = Text.assemble((found["study"], "bold"), ": ", (found["state"], _STATES[found["state"]]))
    if found["state"] == "running":
        text.append(f" for {duration(found['seconds_spent'])}, about {duration(found['seconds_left'])} left")
        if found["last_sign_s"] is not None:
            text.append(f"; last sign of life {duration(found['last_sign_s'])} ago", "dim")
    elif found["state"] == "stopped":
        text.append(f", about {duration(found['seconds_left'])} left; no process is running it")
    return text


def _bar(found: dict[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, found["total"]), completed=found["done"], width=30)
    kinds = ", ".join(f"{kind} {n['done']}/{n['total']}" for kind, n in found["stages"].items())
    grid.add_row(bar, Text(f"{found['done']} of {found['total']} stages: {kinds}"))
    return grid


def _methods(methods: list[dict[str, Any]]) -> Table:
    """Return the table of methods; columns that would be empty are left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    troubles = [name for name in ("diverged", "failed", "stopped") if any(m[name] for m in methods)]
    searched = any(m["best"] for m in methods)
    for title in ("method", "from"):
        table.add_column(title)
    for title in ("cells", "trained", "evaluated", *troubles):
        table.add_column(title, justify="right")
    if searched:
        table.add_column("best on validation so far", overflow="fold")
    for m in methods:
        counts = [str(m[name]) for name in ("cells", "trained", "evaluated", *troubles)]
        cells = [Text(m["method"]), Text(m["start"]), *map(Text, counts)]
        table.add_row(*cells, *([Text(_best(m["best"]))] if searched else []))
    return table


def _best(best: dict[str, Any] | None) -> str:
    if best is None:
        return "–"
    width = "" if best["half_width"] is None else f" ± {best['half_width']:.3f}"
    seeds = "1 seed" if best["seeds"] == 1 else f"{best['seeds']} seeds"
    return f"{best['validation']:.3f}{width} ({seeds}) {best['setting']}"


def _facts(found: dict[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for each in found["running"]:
        grid.add_row("now", Text(f"{each['label']}: {each['what']} {each['done']} of {each['total']}"))
    troubled = found["troubled"]
    for cell in troubled[:_TROUBLES]:
        where = f"{cell['method']} on {cell['start']}, {cell['size']} rows, seed {cell['seed']} ({cell['setting']})"
        step = "" if cell["step"] is None else f" at step {cell['step']}"
        grid.add_row(Text(cell["status"], "yellow"), Text(f"{where}{step}: {cell['cause']}"))
    if len(troubled) > _TROUBLES:
        grid.add_row("", Text(f"and {len(troubled) - _TROUBLES} more; the report lists them all"))
    cells = {cell["cause"] for cell in troubled}
    for each in found["failed"]:
        error = each["error"].splitlines()[0]
        if error not in cells:
            grid.add_row(Text("failed", "red"), Text(f"{each['label']}: {error}"))
    for each in found["damages"][:_TROUBLES]:
        grid.add_row(Text("damaged", "red"), Text(f"{each['where']}: {each['what']}"))
    grid.add_row("disk", Text(f"{_size(found['bytes'])} in {found['folder']}, {_size(found['free_bytes'])} free"))
    if found["state"] == "stopped" and found["command"]:
        grid.add_row("continue", Text(found["command"]))
    if found["report"]:
        grid.add_row("report", Text(found["report"]))
    return grid


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
