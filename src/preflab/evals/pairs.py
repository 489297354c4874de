"""Preference accuracy and margin on held-out pairs, per example; every aggregate is computed from these rows later."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.scoring.logps import score

ROLES = ("chosen", "rejected")


def score_pairs(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    references: Mapping[str, Sequence[NDArray[np.float32] | None]],
    *,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Return one record per row: totals (nats) and lengths (tokens) of both responses, under policy and start point.

    Args:
        model: the policy.
        rows: held-out rows.
        references: role to the start point's token log-probs of each row, float32 `[token]` each, nats.
        budget: flat tokens per forward.
        progress: called with rows done and rows to do.
    """
    scores = score(model, rows, ROLES, budget=budget, progress=progress)
    records = []
    for i, row in enumerate(rows):
        record: dict[str, Any] = {"row": row.row}
        for role in ROLES:
            values, known = scores[role][i], references[role][i]
            record[f"{role}_total"] = None if values is None else float(values.sum(dtype=np.float64))
            record[f"{role}_length"] = None if values is None else len(values)
            record[f"reference_{role}_total"] = None if known is None else float(known.sum(dtype=np.float64))
        records.append(record)
    return records


def match_unpaired(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put desirable and undesirable rows of unpaired data side by side, in order, so that margins exist for them too.

    The share of such pairs with a positive margin estimates the area under the ROC curve between desirable and
    undesirable responses. Pairs of paired data and rows without a partner stay as they are.
    """
    matched = [dict(record) for record in records]
    desirable = [r for r in matched if r["rejected_total"] is None and r["chosen_total"] is not None]
    undesirable = [r for r in matched if r["chosen_total"] is None and r["rejected_total"] is not None]
    for better, worse in zip(desirable, undesirable, strict=False):
        better |= {key: value for key, value in worse.items() if "rejected" in key}
        matched.remove(worse)
    return matched


def margins(records: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the log-ratio margin of each complete pair, `[pair]`, nats: how much more the policy prefers the chosen
    response than its start point does.
    """
    return np.array(
        [
            (r["chosen_total"] - r["reference_chosen_total"]) - (r["rejected_total"] - r["reference_rejected_total"])
            for r in records
            if r["chosen_total"] is not None and r["rejected_total"] is not None
        ]
    )
