"""Where the numbers come from and what could make the comparison unfair."""

from collections.abc import Mapping
from typing import Any

from preflab.report.analysis import Analysis
from preflab.report.sections import Cell, Table
from preflab.report.tables import Group
from preflab.report.wording import MISSING, big, count, names


def provenance(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of everything that identifies a study: versions, data, models, precision."""
    versions = study.get("versions", {})
    facts = [
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Commit", str(study.get("commit") or "")),
        ("Machine", machine(study)),
        ("Numerics", _flat(study.get("numeric_policy"))),
    ]
    facts += [(f"Model {name}", _flat(model)) for name, model in study.get("models", {}).items()]
    data = study.get("data", {})
    by_file = _files(data)
    facts += [(_DATA.get(k, k.replace("_", " ")), _flat(v)) for k, v in data.items() if not by_file or k not in by_file]
    if data and not _total(data.get("excluded") or {}):
        facts.append(("Left out", "no row"))
    return [(name, value) for name, value in facts if value]


def data_table(study: Mapping[str, Any]) -> Table | None:
    """Return one row per file of the data, where the study records them by file."""
    data = study.get("data", {})
    columns = _files(data)
    if not columns:
        return None
    head = [("File", ""), *((_DATA.get(name, name.replace("_", " ")), "") for name in columns)]
    rows = [
        [Cell(str(file), kind="text"), *(_fact(data[name].get(file)) for name in columns)] for file in data["source"]
    ]
    return Table("The data, by file.", head, rows, "data")


_DATA = {
    "source": "Source", "detected": "Detected as", "n_rows": "Rows", "n_prompts": "Prompts", "splits": "Rows used",
    "excluded": "Left out", "truncated": "Truncated", "digest": "Digest of the tokens", "mean_tokens": "Mean tokens",
    "kind": "Kind of data",
}  # fmt: skip


def _files(data: Mapping[str, Any]) -> list[str]:
    """Return the entries that are recorded by file; empty when the sources are not."""
    source = data.get("source")
    if not isinstance(source, Mapping):
        return []
    return [name for name, value in data.items() if isinstance(value, Mapping) and value and set(value) <= set(source)]


def _fact(value: Any) -> Cell:
    if isinstance(value, Mapping):
        value = {key: number for key, number in value.items() if number}
        return Cell(_flat(value) or "none", kind="text")
    text = _flat(value)
    if isinstance(value, int | float):
        return Cell(text or MISSING, value=float(value))
    return Cell(text or MISSING, kind="text")


def machine(study: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    found = study.get("machine")
    if not isinstance(found, Mapping):
        return _flat(found)
    units = {"n_cpus": "core", "threads": "thread", "workers": "worker"}
    parts = []
    for key, value in found.items():
        if isinstance(value, int) and key in units:
            parts.append(count(value, units[key]))
        elif isinstance(value, int | float) and "memory" in key and value > 1e6:
            parts.append(f"{value / 2**30:.1f} GiB of memory")
        elif value not in (None, ""):
            parts.append(f"{_flat(value)} of memory" if key == "memory" else _flat(value))
    return ", ".join(parts)


def cards(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what every method is and where it comes from."""
    result = []
    for name, card in study.get("cards", {}).items():
        source = card.get("source") or {}
        source = source if isinstance(source, Mapping) else {"paper": str(source)}
        facts: list[tuple[str, Any]] = [
            ("Paper", ", ".join(str(source[key]) for key in ("paper", "title") if source.get(key)))
        ]
        facts += [("arXiv", source.get("arxiv")), ("Equation", source.get("equation")), ("Note", source.get("note"))]
        for field, spec in (card.get("hyperparameters") or {}).items():
            facts.append((field, _hyper(spec)))
        result.append({
            "title": f"{card.get('title') or name}: method card and citation",
            "summary": str(card.get("summary") or ""),
            "facts": [(key, str(value)) for key, value in facts if value],
            "bibtex": str(source.get("bibtex") or ""),
        })  # fmt: skip
    return result


def fairness(analysis: Analysis) -> list[str]:
    """Return what a sceptical reader should know about the comparison."""
    lines = [_search_budget(analysis), _seeds(analysis), *_varying_settings(analysis)]
    excluded = analysis.tables.study.get("data", {}).get("excluded") or {}
    total = _total(excluded)
    if total:
        lines.append(f"{count(total, 'row')} were left out, alike for every method: {_flat(excluded)}.")
    lines += [str(note) for note in analysis.tables.study.get("notes", [])]
    return [line for line in lines if line] or ["Nothing is known about the search behind these cells."]


def _search_budget(analysis: Analysis) -> str:
    cells = analysis.tables.cells
    cells = cells[cells["method"] != ""]
    tried = cells.groupby("method", sort=False)["setting"].nunique()
    if tried.empty:
        return ""
    if tried.nunique() == 1:
        n = int(tried.iloc[0])
        return f"Every method was tried at {count(n, 'setting')}, so none had more chances than another."
    parts = [f"{analysis.title(str(method))} {n}" for method, n in tried.items()]
    return (
        f"The search budgets differ: settings tried per method: {names(parts)}. A method with more settings had more "
        "chances to look good on the validation split."
    )


def _seeds(analysis: Analysis) -> str:
    found = analysis.scores.get("test") or next(iter(analysis.scores.values()), None)
    if found is None:
        return ""
    per_group = {group: len(seeds) for group, seeds in found.seeds.items() if group.method}
    if not per_group or len(set(per_group.values())) == 1:
        return ""
    most = max(per_group.values())
    fewer = [_named(analysis, group) for group, n in per_group.items() if n < most]
    return f"Fewer than {most} seeds finished for {names(fewer[:6])}{' and others' if len(fewer) > 6 else ''}."


def _varying_settings(analysis: Analysis) -> list[str]:
    cells = analysis.tables.cells
    keys = cells.loc[cells["selected"] & (cells["method"] != ""), ["start", "method", "size"]].drop_duplicates()
    groups = [Group(str(k[0]), str(k[1]), int(k[2])) for k in keys.itertuples(index=False)]
    varying = [_named(analysis, group) for group in groups if len(analysis.settings(group)) > 1]
    if not varying:
        return []
    return [f"Validation chose different settings for different seeds of {names(varying[:6])}."]


def _total(counts: Any) -> int:
    return sum(_total(n) for n in counts.values()) if isinstance(counts, Mapping) else int(counts or 0)


def _named(analysis: Analysis, group: Group) -> str:
    return f"{analysis.title(group.method)} from {group.start} at {group.size:,} pairs"


def _hyper(spec: Any) -> str:
    if not isinstance(spec, Mapping):
        return _flat(spec)
    parts = [f"default {spec['default']}" if spec.get("default") is not None else "", str(spec.get("unit") or "")]
    return "; ".join(filter(None, [", ".join(filter(None, parts)), str(spec.get("doc") or "")]))


def _flat(value: Any) -> str:
    """Return a mapping, list or scalar in one line."""
    if value is None or value == "" or value == {}:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return big(value) if value >= 1_000_000 else f"{value:,}"
    return str(value)
