"""What an arm is asked to do and what it answers, as JSON: the arms share no process and no library."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import Usage, wait_until_idle

ROOT = Path(__file__).resolve().parent.parent


class BenchmarkError(Exception):
    """Something that the user can mend, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run.

    Args:
        name: what tables call it.
        model: folder of the weights.
        adapter: folder of the initial LoRA adapter in PEFT's layout; empty trains all weights.
        rows: JSONL file with `prompt`, `chosen` and `rejected` as token ids, in the order of training.
        loss: the objective as fields of TRL's DPOConfig; preflab's arm translates it.
        batch_size: pairs per optimizer step.
        learning_rate: of AdamW, falling linearly to zero.
        device: `cpu` or `cuda`.
        dtype: `float32` or `bfloat16`.
        threads: of torch.
        options: settings that only one arm knows.
    """

    name: str
    model: str
    adapter: str
    rows: str
    loss: Mapping[str, Any] = field(default_factory=lambda: {"loss_type": ["sigmoid"], "beta": 0.1})
    batch_size: int = 8
    learning_rate: float
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an arm measured in one run.

    Args:
        losses: mean loss of every optimizer step.
        step_s: seconds of every optimizer step (of all cells, where several train), data loading included.
        import_s: seconds until the libraries were imported.
        load_s: seconds to load weights, adapter and rows.
        reference_s: seconds of the pass that scores every response once under the start point; 0 when it is online.
        scored_tokens: completion tokens that the loss saw.
        computed_tokens: tokens of the linear layers in the forwards of training, padding included; 0: unknown.
        peak_bytes: largest resident memory of the process, or what the CUDA allocator held at most.
        idle_bytes: resident memory once everything was loaded.
        versions: of the libraries.
        wall_s: seconds of the whole process from its start; 0 for all but the first job of a process.
        others_frac: share of the machine's processors that other programs used meanwhile.
        cells: runs that were trained side by side, each on all rows; losses are those of the first.
    """

    losses: Sequence[float]
    step_s: Sequence[float]
    import_s: float
    load_s: float
    reference_s: float
    scored_tokens: int
    computed_tokens: int
    peak_bytes: int
    idle_bytes: int
    versions: Mapping[str, str]
    wall_s: float = 0.0
    others_frac: float = 0.0
    cells: int = 1


def run_arm(arm: str, jobs: Sequence[Job], *, python: Path, wait_s: float = 0.0) -> list[Result]:
    """Run the jobs of one arm in a fresh process, one after another.

    Args:
        arm: `preflab` or `trl`.
        jobs: what to do, all with the same number of threads.
        python: the interpreter that has the arm's libraries.
        wait_s: how long to wait for other programs to leave the machine alone.

    Raises:
        BenchmarkError: the interpreter is missing, or the arm failed; the last lines say why.
    """
    if not python.exists():
        raise BenchmarkError(
            f"{python}: no such interpreter. `make .venv-parity/.ready` sets up TRL; --trl-python names another one, "
            "and `engine --parts ours` measures preflab alone."
        )
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "jobs.json", Path(folder) / "results.json"
        asked.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")
        command = [str(python), "-m", f"benchmarks.arm_{arm}", str(asked), str(answered)]
        wait_until_idle(wait_s)
        usage = Usage()
        done = subprocess.run(
            command, cwd=ROOT, env=environment(jobs[0].threads), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        wall_s, others_frac = usage.wall_s, usage.others_frac
        if done.returncode != 0:
            lines = done.stdout.decode(errors="replace").splitlines()[-15:]
            raise BenchmarkError(f"{arm}, {jobs[0].name}: exit code {done.returncode}.\n" + "\n".join(lines))
        results = [Result(**values) for values in json.loads(answered.read_text(encoding="utf-8"))]
    return [replace(result, wall_s=0 if i else wall_s, others_frac=others_frac) for i, result in enumerate(results)]


def environment(threads: int | None, **more: str) -> dict[str, str]:
    """Return the environment of both arms: the same threads (the libraries' own choice if None), no network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "HF_", "MALLOC_"))}
    chosen = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return {
        **kept,
        **chosen,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        **more,
    }


def serve(run: Any) -> None:
    """Be an arm: read jobs from the first argument, run each, write the results to the second."""
    asked, answered = map(Path, sys.argv[1:3])
    jobs = [Job(**values) for values in json.loads(asked.read_text(encoding="utf-8"))]
    answered.write_text(json.dumps([asdict(run(job)) for job in jobs]), encoding="utf-8")
