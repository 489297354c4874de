"""Make preference pairs from real answers of four models to GSM8K: a right one against a wrong one.

The answers are those that OpenAI published with "Training Verifiers to Solve Math Word Problems" (Cobbe et al., 2021,
github.com/openai/grade-school-math, example_model_solutions.jsonl, MIT): one line per test question, four models, each
with `is_correct`. Calculator annotations such as <<16-3=13>> are taken out of the texts; nothing else is changed.

    python recipes/gsm8k_pairs.py example_model_solutions.jsonl gsm8k_pairs.jsonl

A question gives one pair, the first right and the first wrong answer in an order drawn for it, or none where all four
are right or all wrong; --all gives every right answer against every wrong one.
"""

import argparse
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preflab.core.seeds import permutation

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def main() -> None:
    """Read the answers and write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--all", action="store_true", help="every right answer against every wrong one")
    asked = parser.parse_args()
    lines = [json.loads(line) for line in asked.answers.read_text(encoding="utf-8").splitlines()]
    rows = [row for number, line in enumerate(lines) for row in pairs(line, number, every=asked.all)]
    asked.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} pairs of {len({row['meta']['question'] for row in rows})} questions among {len(lines)}")


def pairs(line: dict[str, Any], number: int, *, every: bool) -> Iterator[dict[str, Any]]:
    """Yield the pairs of one question."""
    order = [MODELS[i] for i in permutation(len(MODELS), 0, "gsm8k", number)]
    right = [name for name in order if line[name]["is_correct"]]
    wrong = [name for name in order if not line[name]["is_correct"]]
    found = list(itertools.product(right, wrong))
    for better, worse in found if every else found[:1]:
        yield {
            "prompt": [{"role": "user", "content": line["question"]}],
            "chosen": [{"role": "assistant", "content": _text(line[better])}],
            "rejected": [{"role": "assistant", "content": _text(line[worse])}],
            "meta": {"question": number, "chosen_from": better, "rejected_from": worse},
        }


def _text(answer: dict[str, Any]) -> str:
    return re.sub(r"<<[^>]*>>", "", answer["solution"]).strip()


if __name__ == "__main__":
    main()
