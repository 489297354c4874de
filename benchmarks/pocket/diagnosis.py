"""How well a diagnosis, which sees no reward, foretells what training did to the gold reward.

    python benchmarks/pocket/diagnosis.py runs/calibration --fit pairs:0 --judge pairs:1 pairs_off:1 pairs_noisy:1

Trains pocket:base with several methods at several learning rates on each data set and seed, diagnoses every model on
validation pairs, and labels it by its change of gold reward on test prompts. A threshold on one feature is chosen on
the runs of --fit and judged on those of --judge, beside the guess that never looks (the commonest label of --fit). The
same command continues. What came out: docs/results/diagnosis.md.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from preflab.diagnose.checkpoints import changes, kl_per_token
from preflab.report.diagnosis import Examined, load_diagnosis
from preflab.stats.intervals import mean_interval, wilson_interval

RATES = (2e-4, 5e-4, 1e-3, 2e-3, 3e-3)
METHODS: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.1},
    "ipo": {"tau": 0.1},
    "kto": {"beta": 0.1},
    "simpo": {"beta": 2.5},
    "sft_dpo": {"beta": 0.1, "gamma": 0.1},
    "flex_dpo": {"beta_chosen": 0.1, "beta_rejected": 0.05},
}


class Rule(NamedTuple):
    """Harmed where the feature is on one side of a threshold."""

    feature: str
    threshold: float
    above: bool

    def says_harmed(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """Return the guess for each run."""
        values = table[self.feature]
        return values > self.threshold if self.above else values < self.threshold


def main(words: Sequence[str]) -> None:
    """Run, or continue, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fit", nargs="+", default=["pairs:0"], help="DATA:SEED")
    parser.add_argument("--judge", nargs="+", default=["pairs:1", "pairs_off:1", "pairs_noisy:1"], help="DATA:SEED")
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args(words)
    tables = {name: runs(options.folder, name, options.size) for name in [*options.fit, *options.judge]}
    fit = pd.concat([tables[name] for name in options.fit])
    rules = sorted(candidates(fit), key=lambda rule: -hits(rule, fit))
    commonest = (fit[fit["label"] != "unclear"]["label"] == "harmed").mean() > 0.5
    print(f"fit on {len(fit)} runs: {fit['label'].value_counts().to_dict()}")
    print(pd.crosstab(fit["code"], fit["label"]))
    for rule in rules[:8]:
        print(f"  {rule.feature} {'>' if rule.above else '<'} {rule.threshold:.3g}: {hits(rule, fit):.0%}")
    for name in options.judge:
        table = tables[name]
        clear = table[table["label"] != "unclear"]
        print(f"{name}: {table['label'].value_counts().to_dict()}")
        print(pd.crosstab(table["code"], table["label"]))
        for rule in rules[:4]:
            report(f"{rule.feature} {'>' if rule.above else '<'} {rule.threshold:.3g}", rule.says_harmed(clear), clear)
        report("verdict collapse", clear["code"] == "collapse", clear)
        report("majority", pd.Series(commonest, index=clear.index), clear)


def report(name: str, guess: "pd.Series[bool]", table: pd.DataFrame) -> None:
    """Print a hit rate with its Wilson interval, over runs whose effect is clear."""
    right = int((guess == (table["label"] == "harmed")).sum())
    interval = wilson_interval(right, len(table))
    print(
        f"  {name}: {right} of {len(table)} right, {interval.estimate:.0%} ({interval.low:.0%} to {interval.high:.0%})"
    )


def hits(rule: Rule, table: pd.DataFrame) -> float:
    """Return the share of runs with a clear effect that a rule gets right."""
    clear = table[table["label"] != "unclear"]
    return float((rule.says_harmed(clear) == (clear["label"] == "harmed")).mean())


def candidates(table: pd.DataFrame) -> Iterator[Rule]:
    """Yield for every feature and side the threshold that is right most often, in the middle of its gap."""
    clear = table[table["label"] != "unclear"]
    for feature in [column for column in table if column.startswith("f_")]:
        values = np.sort(clear[feature].unique())
        middles = (values[1:] + values[:-1]) / 2
        for above in (True, False):
            found = [Rule(feature, float(m), above) for m in middles]
            if found:
                yield max(found, key=lambda rule: hits(rule, table))


def runs(folder: Path, name: str, size: int) -> pd.DataFrame:
    """Return one row per run of a data set and seed: features of its diagnosis, verdict, and label."""
    data, _, seed = name.partition(":")
    command = str(Path(sys.executable).with_name("preflab"))
    cells: list[tuple[Path, dict[str, Any]]] = []
    for rate in RATES:  # a study of its own each, because a study evaluates only the setting that it selects
        study = folder / f"{data}-{seed}-{rate:g}"
        study.parent.mkdir(parents=True, exist_ok=True)
        path = study.with_suffix(".yaml")
        path.write_text(json.dumps(document(data, int(seed), rate, size)), encoding="utf-8")
        subprocess.run([command, "run", str(path), "--out", str(study)], check=True, stdout=subprocess.DEVNULL)
        index = json.loads((study / "index.json").read_text())
        cells += [(study, cell) for cell in index["cells"] if cell["method"] and cell["status"] == "done"]
    models = [str(study / cell["train"] / "model") for study, cell in cells]
    out = folder / f"{data}-{seed}-diagnosis"
    diagnose = [command, "diagnose", "pocket:base", *models, "--data", "pocket:validation", "--gradients", "0"]
    subprocess.run([*diagnose, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return pd.DataFrame(
        [
            {
                "name": name,
                "method": cell["method"],
                "setting": cell["setting"],
                "code": each.diagnosis.code,
                **effect(study, cell),
                **features(each),
            }
            for (study, cell), each in zip(cells, load_diagnosis(out).examined, strict=True)
        ]
    )


def document(data: str, seed: int, rate: float, size: int) -> dict[str, Any]:
    """Return the study file of one data set, seed and learning rate."""
    return {
        "study": f"{data}-{seed}-{rate:g}",
        "models": {"base": "pocket:base"},
        "methods": {name: {**values, "learning_rate": rate} for name, values in METHODS.items()},
        "sizes": [size],
        "seeds": [seed],
        "data": {"train": f"pocket:{data}", "validation": 64, "test": "pocket:test"},
        "evaluate": {"reward": "pocket", "n_prompts": 192, "n_pairs": 64, "max_new_tokens": 48},
        "diagnose": None,  # the command measures the same runs, on validation pairs
    }


def effect(study: Path, cell: dict[str, Any]) -> dict[str, Any]:
    """Return the change of gold reward on test prompts since the start point, and whether it is clear."""
    index = json.loads((study / "index.json").read_text())
    (base,) = (c for c in index["cells"] if not c["method"])
    frames = [
        pd.read_parquet(study / c["evaluate"] / "responses.parquet").set_index(["split", "row"]) for c in (base, cell)
    ]
    change = (frames[1]["reward"] - frames[0]["reward"]).loc["test"].dropna()
    interval = mean_interval(change.to_numpy(dtype=float))
    label = "helped" if interval.low > 0 else "harmed" if interval.high < 0 else "unclear"
    return {"change": interval.estimate, "label": label}


def features(each: Examined) -> dict[str, float]:
    """Return what a diagnosis measured, without any reward."""
    drawn, before = (
        each.samples[(each.samples["of"] == of) & (each.samples["kind"] == "sampled")] for of in ("checkpoint", "start")
    )
    return {
        **{f"f_{role}": change.total.estimate for role, change in changes(each.probes).items()},
        **{f"f_{role}_token": change.per_token for role, change in changes(each.probes).items()},
        "f_kl": float(drawn["kl_exact"].mean()),
        "f_kl_token": kl_per_token(drawn),
        "f_entropy": float(drawn["entropy"].mean() - before["entropy"].mean()),
        "f_length": float(np.log(drawn["n_tokens"].mean() / before["n_tokens"].mean())),
        "f_distinct": float(drawn["distinct"].mean() - before["distinct"].mean()),
        "f_cut": float(drawn["truncated"].mean()),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
