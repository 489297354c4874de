"""`preflab diagnose`: what a method did to a model."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from preflab.cli.study import Json


def diagnose(
    start: str,
    *models: str,
    data: str,
    split: str = "train",
    rows: int = 64,
    prompts: int = 32,
    gradients: int = 8,
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    max_tokens: int = 512,
    max_new_tokens: int = 64,
    out: Annotated[Path, Parameter(help="Folder for tables and page.")] = Path("runs/diagnosis"),
    json_: Json = False,
) -> int:
    """Say what training did to a model: where the probability went, and what is known to help.

    Compares checkpoints with the start point that they were trained from, wherever they were trained: log-probs of
    chosen, rejected and unseen answers, KL, entropy, length, repetition, gradients, and the answers side by side.

    Examples:
        preflab diagnose HuggingFaceTB/SmolLM2-135M-Instruct ./my-dpo-model --data pairs.jsonl
        preflab diagnose base-model ./adapter ./checkpoints --data pairs.jsonl --rows 128

    Args:
        start: the start point: folder, Hub id, or pocket:base.
        models: what became of it: model folders, PEFT adapters, folders of checkpoints over time, Hub ids.
        data: preference pairs, held out if you have them, in any format that preflab reads.
        split: of a folder with files named after splits, or of a Hub data set; a held-out one if there is one.
        rows: pairs to score.
        prompts: of them, those that every model answers.
        gradients: of them, those whose gradients are taken; 0 takes none.
        exclude: row problems to leave out, as `preflab data check` names them.
        max_tokens: of prompt and response together; longer rows are cut, as in a study.
        max_new_tokens: of an answer.
        out: folder for tables and page.
        json_: print JSON.
    """
    import shlex
    from dataclasses import asdict

    from preflab.core.errors import ConfigError
    from preflab.studies.diagnosis import run_diagnosis
    from preflab.studies.probed_pairs import Request

    if not models:
        raise ConfigError(
            "name at least one model behind the start point, such as preflab diagnose base tuned --data …"
        )
    for name, value, least in (
        ("rows", rows, 2),
        ("prompts", prompts, 1),
        ("gradients", gradients, 0),
        ("max_new_tokens", max_new_tokens, 1),
    ):
        if value < least:
            raise ConfigError(f"--{name}: must be at least {least}; got {value}.")
    request = Request(
        start=start,
        models=models,
        data=data,
        split=split,
        rows=rows,
        prompts=min(prompts, rows),
        gradients=min(gradients, rows),
        exclude=exclude,
        max_tokens=max_tokens,
        max_new_tokens=max_new_tokens,
    )
    command = shlex.join(["preflab", *sys.argv[1:]])
    path, found = run_diagnosis(
        request, out, command=command, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    if json_:
        print(json.dumps({"report": str(path), "diagnoses": [asdict(each) for each in found]}, indent=1))
        return 0
    for each in found:
        print(f"{each.checkpoint}: {each.headline}")
        for line in each.evidence:
            print(f"  {line}")
        for line in each.remedies:
            print(f"  try: {line}")
    print(path)
    return 0
