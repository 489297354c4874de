"""`preflab data`: look at data before a study trusts them, and make preference data."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from preflab.cli.accuracy import accuracy
from preflab.cli.benchmarks import benchmarks
from preflab.cli.pairs import constraints, pairs

if TYPE_CHECKING:
    from preflab.data.examples import Kind
    from preflab.data.problems import Problem
    from preflab.data.read import Dataset

app = App(name="data", help="Check preference data, make them, and get benchmarks.")
app.command(pairs)
app.command(constraints)
app.command(benchmarks)
app.command(accuracy)


@app.command
def check(
    file: str,
    /,
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    against: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    tokenizer: str | None = None,
    max_tokens: int = 512,
    columns: str = "",
    kind: Literal["paired", "unpaired", "sft", "prompts"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Report what a data file holds and everything that is wrong with it, with file and row.

    Exits with 3 when something is wrong.

    Examples:
        preflab data check pairs.jsonl
        preflab data check train.jsonl --against test.jsonl --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct
        preflab data check persona.csv --columns prompt=question,chosen=good,rejected=bad --json

    Args:
        file: a JSONL, JSON, CSV or Parquet file, a folder of them, or a Hub id.
        split: split of a Hub data set, or of a folder whose files are named after splits.
        subset: configuration of a Hub data set, or a folder inside it.
        revision: commit, tag or branch of a Hub data set.
        against: another file that must share no prompt with this one; other splits of a folder are always compared.
        tokenizer: folder or Hub id of a model: adds the checks for control tokens, chat template and prompt length.
        max_tokens: tokens of prompt and response together.
        columns: the file's own column names, such as prompt=question,chosen=good,rejected=bad.
        kind: what the rows must be; by default what the columns say.
        as_json: print one JSON document.
    """
    from preflab.data.check import check as check_rows

    dataset, others = _read(
        file, against, split=split, subset=subset, revision=revision, columns=mapping(columns), kind=kind
    )
    model, settings = _tokenizer(tokenizer, max_tokens)
    print(f"checking {len(dataset.examples)} rows", file=sys.stderr)
    problems = check_rows(dataset, tokenizer=model, tokens=settings, others=others)
    problems += tuple(found for other in others.values() for found in other.problems if found.structural)
    report = _report(dataset, problems, model, settings)
    print(json.dumps(report, indent=1, ensure_ascii=False) if as_json else _text(report, problems))
    return 3 if problems else 0


def _read(
    file: str,
    against: tuple[str, ...],
    *,
    split: str,
    subset: str | None,
    revision: str | None,
    columns: dict[str, str],
    kind: "Kind | None",
) -> tuple["Dataset", dict[str, "Dataset"]]:
    """Return the data set, and what it must share no prompt with: other files and the other splits of its folder."""
    from preflab.data.read import other_splits, scan

    print(f"reading {file}", file=sys.stderr)
    dataset = scan(file, split=split, subset=subset, revision=revision, columns=columns, kind=kind)
    others = other_splits(dataset, split=split, columns=columns)
    return dataset, others | {name: scan(name, split=split, columns=columns, kind=kind) for name in against}


def mapping(columns: str) -> dict[str, str]:
    """Return our name of a column to the file's, from a text such as prompt=question,chosen=good."""
    from preflab.core.errors import ConfigError

    pairs = [item.split("=", 1) for item in columns.split(",") if item.strip()]
    if any(len(pair) != 2 or not all(map(str.strip, pair)) for pair in pairs):
        raise ConfigError(f"--columns: must look like prompt=question,chosen=good; got {columns!r}")
    return {field.strip(): column.strip() for field, column in pairs}


def _tokenizer(name: str | None, max_tokens: int) -> tuple[Any, Any]:
    if name is None:
        return None, None
    from transformers import AutoTokenizer

    from preflab.core.errors import ConfigError
    from preflab.data.tokens import TokenSettings

    settings = TokenSettings("auto", max_tokens, max_tokens)
    print(f"loading the tokenizer of {name}", file=sys.stderr)
    try:
        return AutoTokenizer.from_pretrained(name), settings
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizer {name}: cannot be loaded: {str(error).splitlines()[0]}") from None


def _report(dataset: "Dataset", problems: tuple["Problem", ...], tokenizer: Any, settings: Any) -> dict[str, Any]:
    from preflab.data.problems import counts, exclude_line
    from preflab.data.prompts import fingerprints

    bad = {(found.file, found.row) for found in problems}
    sound = [example for example in dataset.examples if dataset.where(example.row) not in bad]
    rows = {(example.prompt, example.chosen, example.rejected) for example in dataset.examples}
    codes = {found.code for found in problems if not found.structural}
    report: dict[str, Any] = {
        "schema_version": 1,
        "source": dataset.source,
        "kind": dataset.kind,
        "detected": dataset.detected,
        "rows_read": len(dataset.examples),
        "rows_sound": len(sound),
        "prompts": len(set(fingerprints(dataset.examples))),
        "repeated_rows": len(dataset.examples) - len(rows),
        "counts": counts(problems),
        "exclude": exclude_line(codes) if codes else "",
        "problems": [
            {"file": p.file, "row": p.row, "code": p.code, "text": p.text, "structural": p.structural} for p in problems
        ],
    }
    if tokenizer is not None and sound:
        from preflab.data.tokens import tokenize

        report["truncated"] = dict(tokenize(sound, tokenizer, settings).truncated)
    return report


def _text(report: dict[str, Any], problems: tuple["Problem", ...]) -> str:
    from preflab.data.problems import rows_by_code

    lines = [f"{report['source']}: {report['detected']}", *map(str, problems)]
    rows, prompts, repeated = report["rows_read"], report["prompts"], report["repeated_rows"]
    lines.append(f"{rows} rows read, {prompts} different prompts, {repeated} rows repeat an earlier one word for word.")
    for role, n in report.get("truncated", {}).items():
        lines.append(f"{n} {role} responses are longer than the limit and would be cut.")
    if not problems:
        return "\n".join([*lines, "No problem found."])
    lines += ["", "Problems:", rows_by_code(problems)]
    if any(found.structural for found in problems):
        lines.append("Problems of the file must be mended before a study can use it.")
    if report["exclude"]:
        lines.append(
            f"To leave these rows out, for every method alike, write in the study file:\n  {report['exclude']}"
        )
    return "\n".join(lines)
