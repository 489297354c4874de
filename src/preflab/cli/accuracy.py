"""`preflab data accuracy`: how often rewards put preference pairs in the right order."""

import json
import sys
from typing import Annotated

from cyclopts import Parameter

from preflab.cli.study import Json


def accuracy(
    pairs: str,
    *scorers: str,
    reference: str | None = None,
    split: str = "train",
    columns: str = "",
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    max_tokens: int = 2048,
    json_: Json = False,
) -> int:
    """Count how often rewards put pairs in the right order, subset by subset, as RewardBench does.

    A subset is a family of the data. A language model is judged by its implicit reward against --reference, in sum and
    per token, and by its own log-prob per token.

    Examples:
        preflab data accuracy pairs.jsonl ./reward-model
        preflab data accuracy hhh.jsonl ./dpo-model ./kto-model --reference base-model --columns family=category

    Args:
        pairs: preference pairs, in any format that preflab reads.
        scorers: rewards (pocket, math, last-number, constraints, sentiment, file.py:NAME), reward models (sequence
            classifiers), or language models (folders, adapters, Hub ids).
        reference: the start point of the language models.
        split: of a folder with files named after splits, or of a Hub data set.
        columns: the file's own column names, such as family=category,prompt=question.
        exclude: row problems to leave out, as `preflab data check` names them.
        max_tokens: of prompt and response together; longer responses are cut.
        json_: print JSON.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from preflab.cli.data import mapping
    from preflab.core.errors import ConfigError
    from preflab.studies.reward_accuracy import Request, reward_accuracies

    if not scorers:
        raise ConfigError("name at least one scorer, such as preflab data accuracy pairs.jsonl ./reward-model")
    request = Request(
        pairs=pairs,
        scorers=scorers,
        reference=reference,
        split=split,
        columns=mapping(columns),
        exclude=exclude,
        max_tokens=max_tokens,
    )
    found = reward_accuracies(request, say=lambda line: print(line, file=sys.stderr, flush=True))
    if json_:
        print(json.dumps([asdict(each) for each in found], indent=1))
        return 0
    console = Console(highlight=False)
    for each in found:
        console.print(each.scorer, soft_wrap=True, markup=False)
        table = Table(box=None, pad_edge=False)
        for column in ("  subset", "pairs", "ties", "right, % (95 %)"):
            table.add_column(column, justify="left" if column == "  subset" else "right")
        for s in each.subsets:
            shown = _shown(s.accuracy.estimate, s.accuracy.low, s.accuracy.high)
            table.add_row(f"  {s.subset}", f"{s.pairs:,}", f"{s.ties:,}", shown)
        pairs, ties = (f"{sum(getattr(s, name) for s in each.subsets):,}" for name in ("pairs", "ties"))
        table.add_row("  mean of subsets", pairs, ties, _shown(each.mean.estimate, each.mean.low, each.mean.high))
        console.print(table)
    return 0


def _shown(estimate: float, low: float, high: float) -> str:
    return f"{100 * estimate:.1f} ({100 * low:.0f}–{100 * high:.0f})"
