"""Runs inside a process of lm-eval: its own tasks over rows that preflab chose. It knows nothing of preflab.

`python lm_eval_pack.py REQUEST.json` writes the samples that it names. In a process of its own, since lm-eval changes
the state of the random number generators and takes a dozen seconds to import.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def rows(**given: Any) -> Any:
    """Return the splits of a task: what is scored, and its worked examples; lm-eval calls it as `custom_dataset`."""
    from datasets import Dataset

    place = Path(given["rows"])
    splits = json.loads(place.read_text(encoding="utf-8"))
    return {name: Dataset.from_list(found) for name, found in splits.items() if found}


def as_they_are(docs: Any) -> Any:
    """Leave worked examples alone, which are question and answer already."""
    return docs


def main(path: str) -> None:
    """Run the tasks of a request and write their samples."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    request = json.loads(Path(path).read_text(encoding="utf-8"))
    pack = Path(path).parent / "pack"
    pack.mkdir(exist_ok=True)
    (pack / "rows.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    shipped = Path(lm_eval.__file__).parent / "tasks"
    for task in request["tasks"]:
        lines = _lines({"include": str(shipped / task["include"]), **task["config"]})
        lines.append("custom_dataset: !function rows.rows")
        if task["config"].get("num_fewshot"):
            shots = [*_lines(task["fewshot"]), "process_docs: !function rows.as_they_are"]
            lines += ["fewshot_config:", *(f"  {line}" for line in shots)]
        (pack / f"{task['name']}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # The batch size of simple_evaluate is not passed on to a model object.
    model = HFLM(**request["model"], batch_size=request["batch_size"], device=request["device"])
    began = time.process_time()
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[task["name"] for task in request["tasks"]],
        task_manager=TaskManager(include_path=str(pack), include_defaults=False),
        apply_chat_template=request["chat"],
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = {name: [_plain(sample) for sample in found["samples"][name]] for name in found["samples"]}
    document = {"cpu_s": time.process_time() - began, "samples": samples}
    Path(request["out"]).write_text(json.dumps(document), encoding="utf-8")


def _lines(settings: dict[str, Any]) -> list[str]:
    """Return settings as lines of YAML, of which JSON values are a part."""
    return [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]


def _plain(sample: dict[str, Any]) -> dict[str, Any]:
    """Return what is imported of a sample: its place, filter, metrics, and log-likelihoods or text."""
    responses = sample["resps"]
    metrics = {name: sample[name] for name in sample["metrics"]}
    choice = isinstance(responses[0][0], list | tuple)
    return {
        "place": sample["doc"]["preflab_place"],
        "filter": sample["filter"],
        "metrics": metrics,
        **(
            {"logps": [float(each[0][0]) for each in responses]}
            if choice
            else {"response": str(responses[0][0]), "prompt": str(sample["arguments"][0][0])}
        ),
    }


if __name__ == "__main__":
    main(sys.argv[1])
