"""How far each method moves the pocket world's gold reward: a small trial in plain torch, without the engine.

    python benchmarks/pocket/difficulty.py --start base --run dpo:5e-4 --run simpo:3e-4:beta=2.5 --data pairs

Every line: gold reward and its aspects on held-out prompts, sampled at temperature 1; the change from the start point
with its standard error over prompts; KL to the start point and length by sampling. For tuning the world, not a result.
"""

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from preflab.methods import Leaf, Logps, assemble, find
from preflab.pocket.rewards import gold_reward

ASPECTS = ("reward", "right", "concise", "polite", "safe")


def load(root: Path, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in gzip.decompress((root / "data" / f"{name}.jsonl.gz").read_bytes()).splitlines()
    ]


def encode(tokenizer: Any, rows: list[dict[str, Any]], role: str) -> list[tuple[list[int], list[int]]]:
    prompts = [tokenizer.apply_chat_template(r["prompt"], tokenize=False, add_generation_prompt=True) for r in rows]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    responses = tokenizer([r[role] for r in rows], add_special_tokens=False)["input_ids"]
    return [(p, [*r, tokenizer.eos_token_id]) for p, r in zip(ids, responses, strict=True)]


def logps(model: Any, batch: list[tuple[list[int], list[int]]], per_token: bool = False) -> Any:
    width = max(len(p) + len(r) for p, r in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.bool)
    for i, (p, r) in enumerate(batch):
        ids[i, : len(p) + len(r)] = torch.tensor(p + r)
        mask[i, len(p) : len(p) + len(r)] = True
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = mask[:, 1:]
    logits = model.lm_head(hidden[wanted])
    token = torch.zeros(wanted.shape)
    token[wanted] = -F.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    return token if per_token else Logps(token.sum(1), wanted.sum(1).float())


def train(start: Any, tokenizer: Any, rows: list[dict[str, Any]], spec: str, epochs: int, size: int, seed: int) -> Any:
    name, lr, *extra = spec.split(":")
    method = find(name)
    hyper = {f: getattr(method.hyperparameters(), f) for f in method.hyperparameters.__dataclass_fields__}
    hyper.update({k: float(v) for k, v in (item.split("=") for item in extra)})
    roles = {role: encode(tokenizer, rows, role) for role in ("chosen", "rejected")}
    roles["mismatched"] = [
        (p, c) for (p, _), (_, c) in zip(roles["chosen"], roles["chosen"][7:] + roles["chosen"][:7], strict=True)
    ]
    model = type(start)(start.config)
    model.load_state_dict(start.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(lr), betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    steps, done = epochs * (len(rows) // size), 0
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        for at in range(0, len(order) - size + 1, size):
            picked = order[at : at + size]

            def get(leaf: Leaf, picked: Any = picked) -> Logps:
                batch = [roles[leaf.role][i] for i in picked]
                if leaf.quantity == "policy":
                    return logps(model, batch)
                with torch.no_grad():
                    return logps(start, batch)

            loss = method.loss(assemble(method.inputs, get), **hyper).loss.mean()
            for group in optimizer.param_groups:
                group["lr"] = float(lr) * min(
                    (done + 1) / max(1, 0.1 * steps), 0.5 * (1 + np.cos(np.pi * done / steps))
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
    return model


@torch.no_grad()
def evaluate(model: Any, start: Any, tokenizer: Any, rows: list[dict[str, Any]], seed: int) -> dict[str, np.ndarray]:
    prompts = [tokenizer.apply_chat_template(r["prompt"], tokenize=False, add_generation_prompt=True) for r in rows]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    torch.manual_seed(seed)
    out = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=32)
    out = out[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    gold = [gold_reward((), t, r["meta"]) for t, r in zip(texts, rows, strict=True)]
    result = {name: np.array([g[name] for g in gold]) for name in ASPECTS}
    batch = [
        (p, (o[: o.index(2) + 1] if 2 in o else o))
        for p, o in zip(tokenizer(prompts, add_special_tokens=False)["input_ids"], out.tolist(), strict=True)
    ]
    log_ratio: Tensor = logps(start, batch, per_token=True) - logps(model, batch, per_token=True)
    result["kl"] = (log_ratio.exp() - 1 - log_ratio).sum(1).numpy()
    result["length"] = np.array([len(o) for _, o in batch])
    result["family"] = np.array([r["family"] for r in rows])
    result["text"] = np.array(texts)
    return result


def line(name: str, r: dict[str, np.ndarray], r0: dict[str, np.ndarray], wall_s: float) -> str:
    change = r["reward"] - r0["reward"]
    aspects = " ".join(f"{a} {r[a].mean():.3f}" for a in ASPECTS)
    families = " ".join(f"{f[:4]} {(r['right'][r['family'] == f] == 1).mean():.2f}" for f in np.unique(r["family"]))
    return (
        f"{name:34s} {aspects} | change {change.mean():+.3f} se {change.std() / len(change) ** 0.5:.3f} | "
        f"kl {r['kl'].mean():.2f} len {r['length'].mean():.1f} | {families} | {wall_s:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1] / "src/preflab/pocket/assets")
    parser.add_argument("--start", default="base")
    parser.add_argument("--run", action="append", default=[], help="method:learning_rate[:name=value...]")
    parser.add_argument("--data", default="pairs")
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    folder = args.root / ("instruct" if args.start == "instruct" else "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if args.start == "sft":
        rows = [{**r, "chosen": r["completion"], "rejected": r["completion"]} for r in load(args.root, "sft")]
        start = train(start, tokenizer, rows, "sft:1e-3", 1, 32, 0).eval()
    held_out, rows = load(args.root, args.split)[: args.prompts], load(args.root, args.data)[: args.pairs]
    before = evaluate(start, start, tokenizer, held_out, 1)
    print(line(args.start, before, before, 0.0), flush=True)
    for spec in args.run:
        began = time.perf_counter()
        model = train(start, tokenizer, rows, spec, args.epochs, args.batch, args.seed).eval()
        after = evaluate(model, start, tokenizer, held_out, 1)
        print(line(spec, after, before, time.perf_counter() - began), flush=True)
        for row, text in list(zip(held_out, after["text"], strict=True))[: args.show]:
            print("   ", row["prompt"][-1]["content"], "|", text)


if __name__ == "__main__":
    main()
