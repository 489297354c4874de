"""The claims of "3D-Properties" in the pocket world, on- and off-policy: pairs, four studies, and the list of claims.

    python recipes/3d_pocket.py runs/3d-pocket

The scenarios are the paper's: S1 chosen and rejected from the model itself, S2 chosen from the data, S3 rejected from
the data, S4 both from the data, where the data are written by the world's program. Every scenario has the same prompts:
those for which all four give a pair. Killed, it goes on by the same command.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from preflab.data.read import read
from preflab.data.tokens import TokenSettings, tokenize
from preflab.evals.probes import similarities
from preflab.models.load import load_model, load_tokenizer, quiet
from preflab.pocket.assets import data_path, model_path
from preflab.report.load import load_tables
from preflab.report.tables import StudyTables, completed, final_cells
from preflab.scoring.logps import prove
from preflab.stats.intervals import Interval, seed_interval

FAMILIES = ("arithmetic", "dialogue")
SCENARIOS = {"s1": ("model", "model"), "s2": ("data", "model"), "s3": ("model", "data"), "s4": ("data", "data")}
"""Where the chosen and the rejected response come from."""


def main() -> None:
    """Make what is missing and list the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", action="append", default=[], help="a setting of the studies, as in preflab run")
    asked = parser.parse_args()
    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("pairs_off", "prompts"), ("validation", "validation"), ("test", "test")):
        _write(folder / f"{name}.jsonl", (row for row in _pocket(split) if row["family"] in FAMILIES))
    for name, (chosen, rejected) in SCENARIOS.items():
        sampling = ("--reward", "pocket", "--samples", "8", "--max-new-tokens", "24")
        origin = ("--chosen", chosen, "--rejected", rejected, "--out", folder / f"all-{name}.jsonl")
        _run("data", "pairs", "pocket:base", "--prompts", folder / "prompts.jsonl", *sampling, *origin)
    _same_prompts(folder)
    recipe = Path(__file__).parent / "3d-pocket.yaml"
    changes = [f"data.{name}={folder / name}.jsonl" for name in ("validation", "test")]
    for name in SCENARIOS:
        own = [f"study={name}", f"data.train={folder / name}.jsonl", *changes, *asked.set]
        _run("run", recipe, "--out", folder / name, *(word for change in own for word in ("--set", change)))
    tables = {name: completed(load_tables(folder / name)) for name in SCENARIOS}
    print("\n".join(claims(tables, {name: ches(folder / f"{name}.jsonl") for name in SCENARIOS})))


def claims(tables: Mapping[str, StudyTables], alike: Mapping[str, float]) -> Iterator[str]:
    """Yield a line per scenario and per claim of the paper, with numbers over seeds (t intervals).

    Args:
        tables: of each scenario's study.
        alike: mean CHES score per token of each scenario's pairs under the start point.
    """
    first = tables["s1"]
    methods = [m for m in first.cells["method"].unique() if m]
    yield "gain in gold reward over the start point, by scenario"
    for method in methods:
        gains = {name: _text(gain(found, method)) for name, found in tables.items()}
        yield f"  {method}: " + ", ".join(f"{name} {text}" for name, text in gains.items())
    yield "1. change of log-prob in nats at the end (chosen, rejected, unseen), and share of runs whose chosen one fell"
    for name, found in tables.items():
        for method in methods:
            moved = changes(found, method)
            fell = (moved["chosen"] < 0).mean()
            parts = ", ".join(
                f"{role} {_text(seed_interval(moved[role]))}" for role in ("chosen", "rejected", "unseen")
            )
            yield f"  {name} {method}: {parts}; chosen fell in {fell:.0%}"
    yield "2. DPO by scenario: CHES of the pairs, fall of rejected, gain"
    for name, found in tables.items():
        fall = seed_interval(changes(found, "dpo")["rejected"])
        yield f"  {name}: CHES per token {alike[name]:+.2f}, rejected {_text(fall)}, gain {_text(gain(found, 'dpo'))}"
    yield "3. Flex-DPO by beta_rejected: validation reward, mean of the seeds (DPO's own is 0.1)"
    for name, found in tables.items():
        cells = found.cells[found.cells["method"] == "flex_dpo"]
        values = cells.groupby("setting", sort=False)["validation"].mean()
        yield f"  {name}: " + ", ".join(
            f"{setting.split(',')[1].strip()} {value:.3f}" for setting, value in values.items()
        )
    yield "4. chosen log-prob at the end, SFT-DPO less DPO on the same seeds"
    for name, found in tables.items():
        more = changes(found, "sft_dpo")["chosen"].to_numpy() - changes(found, "dpo")["chosen"].to_numpy()
        yield f"  {name}: {_text(seed_interval(more))}"
    yield "5. validation pairs in the right order at the end, and the fall from the best point: reward model, DPO"
    for name, found in tables.items():
        judged, implicit = accuracy(found.judges, "judge"), accuracy(_of(found, "dpo"), "cell")
        texts = [
            f"{_text(seed_interval(t.iloc[-1]))} (fall {float((t.max() - t.iloc[-1]).mean()):.3f})"
            for t in (judged, implicit)
        ]
        yield f"  {name}: reward model {texts[0]}, DPO {texts[1]}"
    yield "6. PPO less DPO in gold reward, by family"
    for name, found in tables.items():
        parts = []
        for family in FAMILIES:
            both = [by_seed(found, method, family) for method in ("ppo", "dpo")]
            parts.append(f"{family} {_text(seed_interval((both[0] - both[1]).dropna()))}")
        yield f"  {name}: " + ", ".join(parts)
    yield "7. DPO's second epoch: change from its end of the first to the end of the second (validation)"
    for name, found in tables.items():
        course = _of(found, "dpo")
        half = course["step"].max() // 2
        wide = {c: course.pivot_table(index="step", columns="cell", values=c) for c in ("accuracy", "chosen_total")}
        parts = [f"{c} {_text(seed_interval(w.iloc[-1] - w.loc[half]))}" for c, w in wide.items()]
        yield f"  {name}: " + ", ".join(parts)


def gain(tables: StudyTables, method: str) -> Interval:
    """Return the gain in gold reward over the start point on the test prompts, over seeds."""
    start = by_seed(tables, "", None).iloc[0]
    return seed_interval(by_seed(tables, method, None) - start)


def by_seed(tables: StudyTables, method: str, family: str | None) -> pd.Series:
    """Return the mean gold reward of a method's test responses, seed by seed."""
    cells = final_cells(tables)
    frame = tables.responses.merge(cells.loc[cells["method"] == method, ["cell", "seed"]], on="cell")
    frame = frame[(frame["split"] == "test") & ((frame["family"] == family) if family else True)]
    return frame.groupby("seed")["reward"].mean()


def changes(tables: StudyTables, method: str) -> pd.DataFrame:
    """Return the change of mean log-probs from the first to the last look, a row per run."""
    course = _of(tables, method).sort_values("step").groupby("cell", sort=True)
    ends = {
        role: course[f"{role}_total"].last() - course[f"{role}_total"].first()
        for role in ("chosen", "rejected", "unseen")
    }
    return pd.DataFrame(ends)


def accuracy(course: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return accuracy by step and run."""
    return course[course["step"] > 0].pivot_table(index="step", columns=key, values="accuracy")


def ches(path: Path) -> float:
    """Return the mean CHES score per token of the pairs of a file under the start point."""
    quiet()
    tokenizer = load_tokenizer(Path(model_path("base")))
    model = load_model(Path(model_path("base")), dtype="float32", device="cpu").requires_grad_(False)
    prove(model)
    rows = tokenize(read(str(path)).examples, tokenizer, TokenSettings("auto", 512, 384)).rows
    return float(np.mean([score["ches_mean"] for score in similarities(model, rows, budget=4096)]))


def _of(tables: StudyTables, method: str) -> pd.DataFrame:
    cells = final_cells(tables)
    return tables.dynamics.merge(cells.loc[cells["method"] == method, ["cell", "seed"]], on="cell").sort_values("seed")


def _text(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} ± {interval.half_width:.3f}"


def _pocket(name: str) -> Iterator[dict[str, Any]]:
    with Path(data_path(name)).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _same_prompts(folder: Path) -> None:
    """Keep the prompts that have a pair in every scenario, so that scenarios differ in their responses alone."""
    rows = {
        name: [json.loads(line) for line in (folder / f"all-{name}.jsonl").open(encoding="utf-8")] for name in SCENARIOS
    }
    by_prompt = {name: {json.dumps(row["prompt"]): row for row in own} for name, own in rows.items()}
    common = [prompt for prompt in by_prompt["s1"] if all(prompt in own for own in by_prompt.values())]
    for name, own in by_prompt.items():
        _write(folder / f"{name}.jsonl", (own[prompt] for prompt in common))
    print(f"{len(common)} prompts have a pair in all scenarios")


def _write(path: Path, rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _run(*words: object) -> None:
    program = Path(sys.executable).parent / "preflab"
    subprocess.run([str(word) for word in (program, *words)], check=True)


if __name__ == "__main__":
    main()
