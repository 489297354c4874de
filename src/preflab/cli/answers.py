"""`preflab judge answer`: what a model answers, in a file that judges read."""

import json
import sys
from pathlib import Path
from typing import Literal

from preflab.cli.study import Json


def answer(
    model: str,
    /,
    *,
    out: Path,
    prompts: str | None = None,
    data_dir: Path | None = None,
    max_new_tokens: int = 1024,
    batch_size: int = 16,
    seed: int = 0,
    engine: Literal["transformers", "vllm"] = "transformers",
    json_: Json = False,
) -> int:
    """Write what a model answers to MT-Bench's 80 questions, turn by turn, or to your own prompts.

    Temperatures are MT-Bench's: 0.7 for writing, roleplay and prompts of your own, 0.1 for stem and humanities, else
    0. The same command continues what was stopped. What was counted lies beside the file, under its name with .about
    behind.

    Examples:
        preflab judge answer ./my-dpo-adapter --out answers/dpo.jsonl
        preflab judge answer HuggingFaceTB/SmolLM2-135M-Instruct --prompts prompts.jsonl --out answers/start.jsonl

    Args:
        model: model folder, PEFT adapter, Hub id or pocket model.
        out: the JSONL file to write; judges name the model after it.
        prompts: rows with prompts, in any format that preflab reads; default: MT-Bench's questions.
        data_dir: folder with mt_bench_questions.jsonl; `preflab data benchmarks` shows where it is looked for.
        max_new_tokens: longest answer, in tokens.
        batch_size: answers sampled together, and committed together.
        seed: of the random streams.
        engine: who samples.
        json_: print the counts as JSON.
    """
    from preflab.core.errors import ConfigError
    from preflab.models.load import quiet
    from preflab.studies import answer_files
    from preflab.studies.answers import Settings

    if prompts is not None and data_dir is not None:
        raise ConfigError("--data-dir: holds MT-Bench's questions; leave it out with --prompts.")
    quiet()
    asked = answer_files.mt_bench(data_dir) if prompts is None else answer_files.prompts(prompts)
    settings = Settings(
        samples=1, max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed, engine=engine, template="auto"
    )
    account = answer_files.write_answers(model, asked, out, settings, say=lambda line: print(line, file=sys.stderr))
    if json_:
        print(json.dumps({"file": str(out), **account}, indent=1, ensure_ascii=False))
        return 0
    print(
        f"{account['answers']} answers, {account['truncated']} cut at {max_new_tokens} tokens, {account['empty']} empty"
    )
    print(out)
    return 0
