"""lm-eval as the scorer: its own tasks and code on our items, in a process of its own, read back item by item."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from preflab.core.errors import ConfigError, RunError
from preflab.evals.benchmarks import lm_eval_pack
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.items import ChoiceItem, WrittenItem
from preflab.evals.benchmarks.tasks import Task
from preflab.models.checkpoints import Checkpoint

_SHIPPED = {
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "mmlu": "mmlu/default/_default_template_yaml",
    "truthfulqa": "truthfulqa/truthfulqa_mc2.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "ifeval": "ifeval/ifeval.yaml",
}
"""Task of lm-eval 0.4.13 that a benchmark includes, under its folder `tasks`."""
_LAST_LINES = 3


def scorer_name() -> str:
    """Return what scores made by lm-eval are called: with its version.

    Raises:
        ConfigError: it is not installed; with what to install.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("--scorer lm-eval: not installed; pip install 'preflab[lm-eval]', or use the native scorer.")
    return f"lm-eval {version('lm_eval')}"


def supports(benchmark: Benchmark) -> bool:
    """Return whether lm-eval has the benchmark."""
    return benchmark.name in _SHIPPED


def score_with_lm_eval(
    checkpoint: Checkpoint,
    task: Task,
    *,
    chat: bool,
    dtype: str,
    device: str,
    batch_size: int,
    python: str = sys.executable,
) -> list[dict[str, Any]]:
    """Return one record per item, as the native scorer does, from lm-eval.

    Args:
        checkpoint: the model; an adapter is loaded by PEFT on its base.
        task: a benchmark that lm-eval has, with its items.
        chat: whether prompts go through the chat template.
        dtype: of weights and activations.
        device: where to compute.
        batch_size: requests or prompts computed together.
        python: interpreter that has lm-eval.

    Raises:
        RunError: lm-eval failed, with the last lines that it said.
    """
    document = run_lm_eval(
        checkpoint, task, chat=chat, dtype=dtype, device=device, batch_size=batch_size, python=python
    )
    return _records(task, [sample for samples in document["samples"].values() for sample in samples])


def run_lm_eval(
    checkpoint: Checkpoint, task: Task, *, chat: bool, dtype: str, device: str, batch_size: int, python: str
) -> dict[str, Any]:
    """Return what lm-eval leaves: `samples` by task, and `cpu_s`, the processor's seconds without loading the model.

    Raises:
        RunError: it failed, with the last lines that it said.
    """
    with tempfile.TemporaryDirectory(prefix="preflab-lm-eval-") as scratch:
        folder = Path(scratch)
        request = {
            "tasks": _tasks(task, folder),
            "model": {
                "pretrained": str(checkpoint.start if checkpoint.is_adapter else checkpoint.folder),
                "dtype": dtype,
                **({"peft": str(checkpoint.folder)} if checkpoint.is_adapter else {}),
            },
            "batch_size": batch_size,
            "device": device,
            "chat": chat,
            "out": str(folder / "samples.json"),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
        command = [python, str(lm_eval_pack.__file__), str(folder / "request.json")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            said = " ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
            raise RunError(f"lm-eval failed on {task.benchmark.name}: {said}")
        document: dict[str, Any] = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        return document


def _tasks(task: Task, folder: Path) -> list[dict[str, Any]]:
    """Return tasks for the pack, their rows written beside it; MMLU becomes one per subject, as its shots are."""
    groups: dict[str, list[int]] = {}
    for place, item in enumerate(task.items):
        groups.setdefault(item.cluster if task.benchmark.name == "mmlu" else "", []).append(place)
    several = task.benchmark.name == "winogrande"
    found = []
    for number, places in enumerate(groups.values()):
        name = f"preflab_{task.benchmark.name}_{number}"
        docs = [{**task.items[place].row.values, "preflab_place": place} for place in places]
        shots = [{"preflab_question": q, "preflab_answer": a} for q, a in task.worked(task.items[places[0]])]
        rows = folder / f"{name}.json"
        rows.write_text(json.dumps({"scored": _readable(task.benchmark, docs), "shots": shots}), encoding="utf-8")
        found.append(
            {
                "name": name,
                "include": _SHIPPED[task.benchmark.name],
                "config": {
                    "task": name,
                    "dataset_path": "json",
                    "dataset_name": None,
                    "dataset_kwargs": {"rows": str(rows)},
                    "training_split": None,
                    "validation_split": None,
                    "test_split": "scored",
                    "fewshot_split": "shots" if shots else None,
                    "num_fewshot": len(shots),
                    **_more(task),
                },
                "fewshot": {
                    "sampler": "first_n",
                    "split": "shots",
                    # Winogrande's questions are its choices, of which lm-eval takes the one that doc_to_text counts.
                    "doc_to_text": 0 if several else "{{preflab_question}}",
                    "doc_to_target": "{{preflab_answer}}",
                    "doc_to_choice": "{{[preflab_question]}}" if several else None,
                    "target_delimiter": "",
                },
            }
        )
    return found


def _readable(benchmark: Benchmark, docs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in the schema of lm-eval's task, where it is not that of the file."""
    if benchmark.name == "boolq":
        return [{**doc, "label": int(doc["answer"])} for doc in docs]
    return docs


def _more(task: Task) -> dict[str, Any]:
    if task.benchmark.name == "mmlu":
        about = "{{subject|replace('_', ' ')}}"
        return {"description": f"The following are multiple choice questions (with answers) about {about}.\n\n"}
    if task.benchmark.kind == "written":
        until = list(task.benchmark.stops)
        limits = {"do_sample": False, "temperature": 0.0, "max_gen_toks": task.profile.longest_of(task.benchmark)}
        return {"generation_kwargs": {"until": until, **limits}}
    return {}


def _records(task: Task, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_place: dict[int, dict[str, dict[str, Any]]] = {}
    for sample in samples:
        by_place.setdefault(sample["place"], {})[sample["filter"]] = sample
    return [_record(task, item, by_place[place]) for place, item in enumerate(task.items)]


def _record(task: Task, item: ChoiceItem | WrittenItem, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {"item": item.row.id, "row": item.row.number, "cluster": item.cluster}
    first = next(iter(found.values()))
    record |= _metrics(task.benchmark, item, found)
    if isinstance(item, ChoiceItem):
        logps = first["logps"]
        return {**record, "logps": logps, "answer": int(np.argmax(logps)), "correct": list(item.correct), "cut": False}
    return {**record, "prompt": first["prompt"], "response": first["response"]}


def _metrics(
    benchmark: Benchmark, item: ChoiceItem | WrittenItem, found: dict[str, dict[str, Any]]
) -> dict[str, float]:
    """Return our metrics by lm-eval's names for them."""
    first = next(iter(found.values()))["metrics"]
    if benchmark.name == "gsm8k":
        return {
            "strict": float(found["strict-match"]["metrics"]["exact_match"]),
            "flexible": float(found["flexible-extract"]["metrics"]["exact_match"]),
        }
    if benchmark.name == "ifeval":
        strict, loose = first["inst_level_strict_acc"], first["inst_level_loose_acc"]
        return {
            "prompt_strict": float(first["prompt_level_strict_acc"]),
            "prompt_loose": float(first["prompt_level_loose_acc"]),
            "instruction_strict": sum(strict) / len(strict),
            "instruction_loose": sum(loose) / len(loose),
        }
    if benchmark.name == "truthfulqa":
        # mc2's options are scored; those of mc1 are among them.
        logps = next(iter(found.values()))["logps"]
        assert isinstance(item, ChoiceItem)
        by_answer = dict(zip(item.row.values["mc2_targets"]["choices"], logps, strict=True))
        one = item.row.values["mc1_targets"]
        place = int(np.argmax([by_answer.get(answer, -np.inf) for answer in one["choices"]]))
        return {"mc1": float(one["labels"][place]), "mc2": float(first["acc"])}
    return {name: float(first[name]) for name in benchmark.metrics}
