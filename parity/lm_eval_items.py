"""The native scorer beside lm-eval on the same items: agreement item by item, and the time of both.

    python parity/lm_eval_items.py MODEL --data-dir FOLDER --python PYTHON-WITH-LM-EVAL [--items 40] [--shots]
        [--benchmarks arc_challenge,piqa] [--batch-sizes 1,8,32]

Times are processor seconds of one thread for scoring alone: neither imports, nor loading the model. lm-eval's is the
best of several batch sizes. Exits with 1 where an item disagrees.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from preflab.evals.benchmarks.catalogue import named
from preflab.evals.benchmarks.lm_eval_backend import run_lm_eval, score_with_lm_eval
from preflab.evals.benchmarks.selection import Profile
from preflab.evals.benchmarks.tasks import prepare
from preflab.models.checkpoints import lone_checkpoint
from preflab.models.load import context_length, end_token_ids, load_tokenizer
from preflab.scoring.logps import prove

_BUDGET = 4096


def main() -> int:
    """Print one line per benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--benchmarks", default="arc_challenge")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--shots", action="store_true")
    parser.add_argument("--batch-sizes", default="1,8,32")
    parser.add_argument("--longest", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = lone_checkpoint(given.model)
    tokenizer = load_tokenizer(checkpoint.tokenizer_folder)
    model = checkpoint.load(dtype="float32", device="cpu").requires_grad_(False)
    prove(model)
    profile = Profile("parity", given.items, shots=given.shots, longest=given.longest)
    tasks, absent = prepare(named(given.benchmarks.split(",")), profile, given.data_dir)
    for line in absent:
        print(line)
    wrong = 0
    for task in tasks:
        began = time.process_time()
        own = task.run(
            model,
            tokenizer,
            template="none",
            end_ids=end_token_ids(checkpoint.tokenizer_folder, tokenizer),
            context=context_length(checkpoint.start),
            budget=_BUDGET,
            batch_size=16,
        )
        ours = time.process_time() - began
        how = dict(chat=False, dtype="float32", device="cpu", python=given.python)
        sizes = [int(size) for size in given.batch_sizes.split(",")]
        runs = [run_lm_eval(checkpoint, task, batch_size=size, **how)["cpu_s"] for size in sizes]
        theirs = score_with_lm_eval(checkpoint, task, batch_size=sizes[0], **how)
        differing = sum(
            any(abs(a[metric] - b[metric]) > 1e-4 for metric in task.benchmark.metrics)
            for a, b in zip(own, theirs, strict=True)
        )
        gaps = [
            np.abs(np.array(a["logps"]) - np.array(b["logps"])).max()
            for a, b in zip(own, theirs, strict=True)
            if "logps" in a and len(a["logps"]) == len(b["logps"])
        ]
        wrong += differing
        gap = f", log-likelihoods within {max(gaps):.1e} nats" if gaps else ""
        times = ", ".join(f"{seconds:.1f} s at {size}" for size, seconds in zip(sizes, runs, strict=True))
        print(
            f"{task.benchmark.name}, {profile.shots_of(task.benchmark)} shots, {len(own)} items: {differing} disagree"
            f"{gap}; native {ours:.1f} s, lm-eval {times}: {min(runs) / ours:.1f}x",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
