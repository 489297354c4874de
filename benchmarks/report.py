"""Results as text: nothing about speed where parity does not hold."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.compare import (
    CURVE_TOLERANCE,
    PARITY_STEPS,
    WARMUP,
    Parity,
    Speed,
    Work,
    curve_gap,
    half_precision,
    mib,
    parity,
    speed,
    table,
)
from benchmarks.engine import OURS, Case, of_case
from benchmarks.jobs import BenchmarkError, Result
from benchmarks.study import PARTS

OTHERS_FRAC: Final = 0.1
"""Share of the processors that other programs may use; runs above it are measured again, not shown."""
_HEAD = (
    "setting",
    "pairs/s, median step (slowest to fastest tenth)",
    "fastest step",
    "pairs/s with reference",
    "useful tokens/s",
    "of the matmul rate, %",
    "tokens computed per useful one",
    "peak memory, MiB",
    "whole process, s",
    "steps",
    "processors used by others, %",
)


def engine_text(records: Sequence[Mapping[str, Any]], case: Case) -> str:
    """Return parity, the table of all settings, TRL's search, and the ratios of a case.

    Raises:
        BenchmarkError: parity was not measured or does not hold.
    """
    mine = list(of_case(records, case))
    measured = [record["values"] for record in mine if record["part"] == "facts"]
    if not measured:
        raise BenchmarkError("no results of this case in this folder.")
    # The rate that counts is what the machine can do: the best of all, since other programs only ever lower it.
    facts = max(measured, key=lambda values: values["work"]["matmul_flop_per_s"])
    groups = _grouped(mine, "speed")
    # preflab beside nothing needs no parity; a comparison does.
    verdict = str(parity_of(mine)) if any(name.startswith("TRL") for name in groups) else ""
    work = Work(**facts["work"])
    speeds = {name: speed(results, work) for name, results in groups.items()}
    return "\n\n".join(
        filter(
            None,
            [
                _about(case, facts, mine),
                verdict,
                _half(mine, case),
                table(_HEAD, [_line(name, speeds[name], results) for name, results in groups.items()]),
                _search(_grouped(mine, "search"), case, speeds.get(OURS)),
                _ratios(speeds, groups),
                _left_out(mine),
            ],
        )
    )


def parity_of(records: Sequence[Mapping[str, Any]]) -> Parity:
    """Return the last parity measured.

    Raises:
        BenchmarkError: it was not measured, or does not hold, or the timed runs of both arms trained different things.
    """
    groups, timed = _grouped(records, "parity"), _grouped(records, "speed")
    if OURS not in groups or "TRL" not in groups:
        raise BenchmarkError("parity was not measured for this case, so no speed is shown; add `parity` to --parts.")
    found = parity(groups[OURS][-1], groups["TRL"][-1])
    if not found.holds:
        raise BenchmarkError(f"{found}; no speed is shown.")
    for name, results in timed.items():
        gap = curve_gap(timed[OURS][-1], results[-1], steps=PARITY_STEPS) if OURS in timed else 0.0
        if gap > CURVE_TOLERANCE and records[0]["case"]["dtype"] == "float32":
            raise BenchmarkError(f"{name}: the timed loss curve is {gap:.1e} away from preflab's; no speed is shown.")
    return found


def _grouped(records: Sequence[Mapping[str, Any]], part: str) -> dict[str, list[Result]]:
    """Return the runs of a part by name: of preflab those of its last commit, timed ones while others were quiet."""
    groups: dict[str, list[Result]] = {}
    mine = [record for record in records if record["part"] == part]
    last = {record["name"]: record["commit"] for record in mine}
    for record in mine:
        name, result = record["name"], Result(**record["values"])
        of_last = not name.startswith(OURS) or record["commit"] == last[name]
        if of_last and (part != "speed" or _quiet(result)):
            groups.setdefault(name, []).append(result)
    return groups


def _quiet(result: Result) -> bool:
    return result.others_frac <= OTHERS_FRAC


def _about(case: Case, facts: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    lengths, machine = facts["lengths"], facts["machine"]
    versions = {k: v for r in records if "versions" in r["values"] for k, v in r["values"]["versions"].items()}
    loads = [record["load_average"][0] for record in records]
    what = "LoRA, rank 16, all linear layers" if case.lora else "all weights"
    tokens_of = f"tokens of {case.data}" if case.data else "random tokens"
    rows = f"{tokens_of} in {case.lengths} lengths" if case.lengths else case.data
    rate = facts["work"]["matmul_flop_per_s"] / 1e9
    tokens = ", ".join(f"{lengths[f'{part}_mean']:.0f} {part}" for part in ("prompt", "chosen", "rejected"))
    commits = ", ".join(dict.fromkeys(record["commit"] for record in records))
    return (
        f"{case.model}, {what}, {case.dtype}; {case.n_pairs} pairs in batches of {case.batch_size}, {rows}.\n"
        f"Mean tokens: {tokens}. Padded rows of a batch: {lengths['padded_ratio']:.2f} tokens for each useful one.\n"
        f"{machine.get('gpu', machine['cpu'])}, {machine['cores']} cores, {case.threads} threads, load average "
        f"{min(loads):g} to {max(loads):g}; matmul {rate:,.0f} GFLOP/s in {case.dtype}.\n"
        + ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
        + f"; preflab at {commits}. Each process's first {WARMUP} steps do not count."
    )


def _half(records: Sequence[Mapping[str, Any]], case: Case) -> str:
    groups = _grouped(records, "parity")
    names = (f"{OURS} {case.dtype}", f"TRL {case.dtype}")
    if not all(name in groups for name in names):
        return ""
    ours, theirs = half_precision(groups[names[0]][-1], groups[names[1]][-1], groups[OURS][-1])
    return f"{case.dtype} against float32: preflab's loss curve within {ours:.1e}, TRL's within {theirs:.1e}"


def _line(name: str, found: Speed, results: Sequence[Result]) -> list[str]:
    return [
        name,
        f"{found.pairs_per_s:.3g} ({found.low:.3g} to {found.high:.3g})",
        f"{found.best:.3g}",
        f"{found.with_reference:.3g}",
        f"{found.useful_tokens_per_s:,.0f}",
        f"{100 * found.matmul_frac:.0f}",
        f"{found.computed_ratio:.2f}" if found.computed_ratio else "–",
        mib(found.peak_bytes),
        f"{found.wall_s:.0f}",
        str(found.steps),
        f"{100 * max(result.others_frac for result in results):.0f}",
    ]


def _search(groups: Mapping[str, Sequence[Result]], case: Case, ours: Speed | None) -> str:
    if not groups:
        return ""
    lines = []
    for name, results in groups.items():
        last = results[-1]
        pairs = len(last.step_s) * case.batch_size
        share = f"{ours.peak_bytes / last.peak_bytes:.2f}" if ours else ""
        # Other programs slow a run down, but do not change its memory.
        pairs_per_s = f"{pairs / sum(last.step_s):.3g}" if _quiet(last) else "others were busy"
        lines.append([name, pairs_per_s, mib(last.peak_bytes), share, str(pairs)])
    fastest = min(groups, key=lambda name: sum(groups[name][-1].step_s))
    smallest = min(groups, key=lambda name: groups[name][-1].peak_bytes)
    found = table(
        ("TRL's micro-batch", "pairs/s, all steps", "peak memory, MiB", "preflab's memory / this", "pairs"), lines
    )
    return f"{found}\n\nTRL's best for speed: {fastest}; for memory: {smallest}."


def _left_out(records: Sequence[Mapping[str, Any]]) -> str:
    timed = [record["values"]["others_frac"] for record in records if record["part"] == "speed"]
    n = sum(found > OTHERS_FRAC for found in timed)
    return f"{n} timed runs left out: other programs used more than {OTHERS_FRAC:.0%} of the processors." if n else ""


def _ratios(speeds: Mapping[str, Speed], groups: Mapping[str, Sequence[Result]]) -> str:
    if OURS not in speeds:
        return ""
    ours, lines = speeds[OURS], []
    for name, other in speeds.items():
        if name == OURS:
            continue
        lines.append(
            [
                f"preflab / {name}",
                f"{ours.pairs_per_s / other.pairs_per_s:.2f}",
                f"{ours.with_reference / other.with_reference:.2f}",
                f"{ours.peak_bytes / other.peak_bytes:.2f}",
                f"{above_idle(groups[OURS]) / above_idle(groups[name]):.2f}",
            ]
        )
    head = ("ratio", "pairs/s, median step", "pairs/s with reference", "peak memory", "memory above the loaded model")
    return table(head, lines) if lines else ""


def above_idle(results: Sequence[Result]) -> float:
    """Return the largest memory that training took beyond the loaded model; the whole peak on a GPU."""
    return max(max(result.peak_bytes - result.idle_bytes, 1) for result in results)


def study_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the last measurement of every part of the study, and how much sooner preflab is done.

    Raises:
        BenchmarkError: preflab's own run is not among them.
    """
    last = {record["part"]: record for record in records}
    if "preflab" not in last:
        raise BenchmarkError("no results of the study in this folder; add `preflab` to --parts.")
    shown = [part for part in PARTS if part in last and part != "search"]
    lines = [_study_line(part, last[part]["values"]) for part in shown]
    head = ("what", "cells trained", "wall time, s", "peak memory, MiB", "how", "processors used by others, %")
    ours = last["preflab"]["values"]
    facts = last["preflab"]["machine"]
    found = [
        f"{facts['cpu']}, {facts['cores']} cores; preflab at {last['preflab']['commit']}.",
        table(head, lines),
        *(
            f"{PARTS[part]}: {last[part]['values']['wall_s'] / ours['wall_s']:.1f} times as long as `preflab run`; "
            f"loss curves of all cells within {max(last[part]['values']['gaps'].values()):.1e}."
            for part in shown
            if "gaps" in last[part]["values"]
        ),
    ]
    if "grown" in last:
        grown = last["grown"]["values"]
        found.append(
            f"Grown by one beta for each method: {grown['new_cells']} new cells trained, none again, "
            f"{grown['wall_s']:.1f} s against {ours['wall_s']:.1f} s for the first {ours['cells']}."
        )
    return "\n\n".join(found)


def _study_line(part: str, values: Mapping[str, Any]) -> list[str]:
    how = f"{values['threads']} threads, {values['micro_batch']} pairs at a time" if "threads" in values else "defaults"
    return [
        PARTS[part],
        str(values.get("new_cells", values["cells"])),
        f"{values['wall_s']:.1f}",
        mib(values["peak_bytes"]),
        how,
        f"{100 * values['others_frac']:.0f}",
    ]
