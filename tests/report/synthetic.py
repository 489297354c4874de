"""A study that never ran: tables with plausible numbers and texts, to look at the report and to test it.

`python tests/report/synthetic.py OUT.html` renders the whole page.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from preflab.report.tables import StudyTables

METHODS = ("dpo", "ipo", "kto", "cpo", "simpo", "ln_dpo", "slic_hf", "orpo")
STARTS = ("base", "sft", "instruct")
FAMILIES = ("dialogue", "arithmetic", "facts", "form")
LEVEL = {"base": 0.36, "sft": 0.52, "instruct": 0.58}
GAIN = dict(zip(METHODS, (0.10, 0.075, 0.08, 0.03, 0.13, 0.11, 0.02, 0.05), strict=True))
KL = dict(zip(METHODS, (4.0, 3.0, 2.2, 6.5, 12.0, 5.0, 1.1, 1.6), strict=True))
SLOPE = dict(zip(METHODS, (-6.0, -2.0, 1.5, 2.0, -30.0, -9.0, 1.0, 4.0), strict=True))  # chosen log-prob, nats
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "{{ 7 * 7 }} {% raw %} ]]> --> <!-- <b>bold</b> & \" ' `",
    "javascript:alert(1) \u2028\u2029\x00\x1b[31mred",
)


@dataclass(frozen=True)
class Shape:
    """How large the invented study is and what it lacks."""

    methods: Sequence[str] = METHODS
    starts: Sequence[str] = STARTS
    sizes: Sequence[int] = (1024,)
    seeds: int = 2
    prompts: int = 100
    reward: bool = True
    snapshots: int = 0
    diverged: bool = True
    texts: Sequence[str] = ()
    seed: int = 0


def make(shape: Shape | None = None) -> StudyTables:
    """Return the tables of an invented study."""
    shape = shape or Shape()
    rng = np.random.default_rng(shape.seed)
    cells = _cells(shape, rng)
    final = cells[cells.selected]
    items = {split: _items(split, shape, rng) for split in ("test", "ood")}
    pairs, responses = [], []
    for cell in final.itertuples():
        for split, frame in items.items():
            pairs.append(_pairs(cell, split, frame, rng))
            responses.append(_responses(cell, split, frame, shape, rng))
    trained = final[final.method != ""]
    return StudyTables(
        cells=cells,
        pairs=pd.concat(pairs, ignore_index=True),
        responses=pd.concat(responses, ignore_index=True),
        snapshots=pd.concat([_snapshots(c, items["test"], shape, rng) for c in trained.itertuples()]),
        dynamics=pd.concat([_dynamics(c, rng) for c in trained.itertuples()], ignore_index=True),
        log=pd.concat([_log(c, rng) for c in trained.itertuples()], ignore_index=True),
        study=_study(shape),
        probes=pd.concat([_probes(c, items["test"], rng) for c in trained.itertuples()], ignore_index=True),
        samples=pd.concat([_samples(c, items["test"], rng) for c in final.itertuples()], ignore_index=True),
        alike=pd.concat([_alike(c, items["test"], rng) for c in final[final.method == ""].itertuples()]),
    )


def _cell(start: str, method: str, rate: float, size: int, seed: int, **other: object) -> dict[str, object]:
    text = f"{start}/{method}/{rate}/{size}/{seed}"
    values = {"beta": {"dpo": 0.1, "simpo": 2.0}.get(method, 0.1)} if method else {}
    setting = ", ".join(f"{k}={v:g}" for k, v in (values | {"learning_rate": rate}).items()) if method else ""
    row = {
        "cell": hashlib.sha256(text.encode()).hexdigest()[:12], "start": start, "method": method, "setting": setting,
        "hyperparameters": values, "learning_rate": rate, "size": size, "seed": seed, "status": "done", "step": 64,
        "cause": "", "selected": True, "train_s": 0.0, "evaluate_s": 3.0, "diagnose_s": 0.4, "tokens": 0,
        "n_steps": 64, "edge": False,
    }  # fmt: skip
    return row | other


def _cells(shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    rows = [_cell(start, "", float("nan"), 0, -1) for start in shape.starts]
    for start in shape.starts:
        for method in shape.methods:
            for size in shape.sizes:
                for seed in range(shape.seeds):
                    cost = {"train_s": 3 + 4 * rng.random() + size / 400, "tokens": int(size * 70)}
                    rows.append(_cell(start, method, 3e-4, size, seed, edge=method == "orpo", **cost))
                    if method in ("simpo", "orpo"):
                        rows.append(_cell(start, method, 1e-4, size, seed, selected=False, **cost))
    cells = pd.DataFrame(rows)
    if shape.diverged and "slic_hf" in shape.methods:
        bad = (cells.method == "slic_hf") & (cells.start == shape.starts[0]) & (cells.seed == 1)
        cells.loc[bad, ["status", "cause", "step", "selected"]] = ["diverged", "gradient norm is inf", 17, False]
        held = (cells.method == "simpo") & (cells.start == shape.starts[0]) & (cells.seed == 0)
        cells.loc[held, ["clamped", "examples"]] = [37, 3072]
    return cells


def _items(split: str, shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    n = shape.prompts
    families = np.array(FAMILIES)[np.arange(n) % len(FAMILIES)]
    prompts = [f"User: Tell me politely about {f} number {k} ({split}).\nAssistant:" for k, f in enumerate(families)]
    for k, text in enumerate(shape.texts):
        prompts[k % n] = text
    return pd.DataFrame({
        "row": np.arange(n), "family": families, "prompt": prompts, "difficulty": rng.normal(0, 0.2, n),
        "chosen_total": -rng.gamma(9, 4, n), "rejected_total": -rng.gamma(9, 4.2, n),
        "chosen_length": rng.integers(8, 40, n), "rejected_length": rng.integers(6, 34, n),
        "chosen": [f"Certainly! Here is what I know about item {k}." for k in range(n)],
        "rejected": [f"No idea about {k}." for k in range(n)], "chosen_reward": np.clip(rng.normal(0.8, 0.1, n), 0, 1),
    })  # fmt: skip


def _strength(cell: object) -> float:
    return 0.0 if not cell.method else min(1.0, 0.45 + 0.275 * np.log10(max(cell.size, 1) / 100) * 2)


def _pairs(cell: object, split: str, items: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = len(items)
    frame = items[["row", "family", "chosen_length", "rejected_length"]].copy()
    frame["cell"], frame["split"] = cell.cell, split
    frame["reference_chosen_total"] = items.chosen_total
    frame["reference_rejected_total"] = items.rejected_total
    moved = _strength(cell)
    shift = moved * (SLOPE.get(cell.method, 0.0) + rng.normal(0, 3, n))
    margin = moved * (40 * GAIN.get(cell.method, 0.0) + rng.normal(0, 4, n))
    frame["chosen_total"] = items.chosen_total + shift
    frame["rejected_total"] = items.rejected_total + shift - margin
    return frame


def _responses(cell: object, split: str, items: pd.DataFrame, shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    n, moved = len(items), _strength(cell)
    frame = items[["row", "family", "prompt", "chosen", "rejected"]].copy()
    frame.insert(0, "cell", cell.cell)
    frame.insert(1, "split", split)
    gain = moved * GAIN.get(cell.method, 0.0) * (0.6 if split == "ood" else 1.0) * (1.3 if cell.start == "base" else 1)
    level = LEVEL.get(cell.start, 0.5) - (0.08 if split == "ood" else 0) + gain + moved * rng.normal(0, 0.012)
    reward = np.clip(level + items.difficulty + rng.normal(0, 0.15, n), 0, 1)
    tokens = np.clip(rng.gamma(6, 3.2 + 1.8 * moved * GAIN.get(cell.method, 0) * 10, n).astype(int) + 1, 1, 64)
    words = ["Of", "course,", "the", "answer", "is", "seven", "because", "blue", "birds", "sing", "—", "谢谢", "ответ"]
    frame["response"] = [" ".join(rng.choice(words, size=max(2, t // 2))) for t in tokens]
    for k, text in enumerate(shape.texts):
        frame.loc[k % n, "response"] = text
    frame["n_tokens"], frame["truncated"] = tokens, tokens >= 64
    kl = moved * KL.get(cell.method, 0.0) * rng.gamma(2, 0.5, n)
    frame["reference_total"] = -1.6 * tokens
    frame["policy_total"] = frame.reference_total + kl
    frame["kl_k3"] = kl
    frame["reward"] = reward if shape.reward else np.nan
    if shape.reward:
        frame["reward_right"] = (reward > 0.5).astype(float)
        frame["reward_polite"] = np.clip(reward + 0.1, 0, 1)
    frame["chosen_reward"] = items.chosen_reward if shape.reward else np.nan
    return frame


def _snapshots(cell: object, items: pd.DataFrame, shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    """Return answers of the lowest seed after 16, 32 and 48 steps of 64; other numbers of steps are as far along."""
    rows = items.row[: shape.snapshots if cell.seed == 0 else 0]
    frames = [
        pd.DataFrame({
            "cell": cell.cell, "split": "test", "row": rows, "step": step, "n_tokens": 5.0, "truncated": False,
            "response": [f"{cell.method} said {row} at step {step}" for row in rows],
            "reward": rng.random(len(rows)) if shape.reward else np.nan,
        })
        for step in (16, 32, 48)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


PROBED = ("chosen", "rejected", "mismatched", "paraphrase", "greedy", "sampled", "shuffled", "repeated")


def _probes(cell: object, items: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return log-probs of up to twenty rows with their probes: chosen ones as in the pairs, rejected ones fall."""
    n, moved = min(20, len(items)), _strength(cell)
    frames = []
    for role in PROBED:
        if role == "chosen":
            mean = SLOPE.get(cell.method, 0.0)
        else:
            mean = {"rejected": SLOPE.get(cell.method, 0.0) - 20.0, "greedy": 2.0}.get(role, -3.0)
        change = moved * (mean + rng.normal(0, 2.0, n))
        frames.append(pd.DataFrame({
            "cell": cell.cell, "row": items.row[:n], "role": role, "prompt": np.arange(n), "length": 12,
            "total": -36.0 + change, "start_total": -36.0, "first_change": change / 4, "tail_change": 3 * change / 4,
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _samples(cell: object, items: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n, moved = min(20, len(items)), _strength(cell)
    kl = moved * KL.get(cell.method, 0.0) * rng.gamma(2, 0.5, n)
    return pd.DataFrame({
        "cell": cell.cell, "row": items.row[:n], "kind": "sampled", "text": [f"answer {k}" for k in range(n)],
        "n_tokens": 14, "truncated": False, "distinct": 1.0, "entropy": 1.2 - 0.3 * moved, "kl_k1": kl, "kl_k3": kl,
        "kl_exact": kl, "policy_total": -17.0 + kl, "start_total": -17.0,
    })  # fmt: skip


def _alike(cell: object, items: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = min(20, len(items))
    ches = rng.normal(-5, 2, n)
    return pd.DataFrame({"cell": cell.cell, "row": items.row[:n], "ches": ches, "ches_mean": ches / 12})


def _dynamics(cell: object, rng: np.random.Generator) -> pd.DataFrame:
    steps = np.linspace(0, cell.n_steps, 9).astype(int)
    share, moved = 1 - np.exp(-3 * steps / max(cell.n_steps, 1)), _strength(cell)
    noise = np.where(steps == 0, 0, 1)
    chosen = -36 + moved * SLOPE.get(cell.method, 0.0) * share + noise * rng.normal(0, 0.6, 9)
    margin = moved * 55 * GAIN.get(cell.method, 0.1) * share + noise * rng.normal(0, 0.3, 9)
    rejected = -37.5 + (chosen + 36) - margin
    return pd.DataFrame({
        "cell": cell.cell, "step": steps, "pairs_seen": steps * max(cell.size // 64, 1), "chosen_total": chosen,
        "chosen_mean": chosen / 24, "rejected_total": rejected, "rejected_mean": rejected / 20, "margin": margin,
        "accuracy": 0.5 + 0.3 * share, "n": 64, "chosen_total_se": 0.9, "rejected_total_se": 0.9, "margin_se": 0.4,
    })  # fmt: skip


def _log(cell: object, rng: np.random.Generator) -> pd.DataFrame:
    steps = np.arange(1, cell.n_steps + 1)
    loss = 0.69 * np.exp(-steps / 60) + rng.normal(0, 0.02, len(steps))
    return pd.DataFrame({"cell": cell.cell, "step": steps, "loss": loss, "grad_norm": rng.gamma(4, 0.3, len(steps)),
                         "learning_rate": cell.learning_rate, "tokens": 70 * 16})  # fmt: skip


def _card(name: str) -> dict[str, object]:
    hyper = {"beta": {"default": 0.1, "unit": "1/nat", "doc": "Strength of the pull to the start point."}}
    source = {"paper": "Authors, 2024", "title": f"A Paper About {name}", "arxiv": "2401.00001", "equation": "7",
              "bibtex": f"@article{{{name}2024, title={{A Paper About {name}}}}}", "note": ""}  # fmt: skip
    title = {"dpo": "DPO", "ipo": "IPO", "kto": "KTO", "cpo": "CPO", "simpo": "SimPO", "ln_dpo": "LN-DPO",
             "slic_hf": "SLiC-HF", "orpo": "ORPO"}.get(name, name)  # fmt: skip
    return {"title": title, "summary": f"What {name} does, in a sentence.", "source": source, "hyperparameters": hyper}


def _study(shape: Shape) -> dict[str, object]:
    methods = "".join(f"  {m}: {{beta: 0.1, learning_rate: 3e-4}}\n" for m in shape.methods)
    return {
        "name": "synthetic", "command": "preflab run study.yaml --out runs/synthetic",
        "config_yaml": f"study: synthetic\nmodels:\n  base: pocket:base\nstarts: {list(shape.starts)}\n"
                       f"methods:\n{methods}sizes: {list(shape.sizes)}\nseeds: {shape.seeds}\n",
        "created": "2026-11-22T12:00:00Z", "wall_s": 342.0,
        "versions": {"preflab": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.7"},
        "commit": "0123456789abcdef", "machine": {"cpu": "x86", "n_cpus": 2, "memory": "8 GiB", "threads": 1},
        "data": {"source": "pocket:pairs", "detected": "explicit prompt, chosen and rejected as message lists",
                 "n_rows": 2048, "excluded": {"empty_response": 3}, "digest": "ab" * 32, "truncated": {"chosen": 4},
                 "splits": {"train": 1024, "validation": 100, "test": shape.prompts, "ood": shape.prompts}},
        "models": {"base": {"source": "pocket:base", "digest": "cd" * 32, "parameters": 812_000}},
        "numeric_policy": "float32, 1 thread", "cards": {m: _card(m) for m in shape.methods},
        "notes": ["Intervals exclude the variance of SFT: one SFT run feeds all seeds."],
    }  # fmt: skip


if __name__ == "__main__":
    from preflab.report.page import write_report

    print(write_report(make(Shape(sizes=(256, 1024), texts=HOSTILE)), Path(sys.argv[1])))
