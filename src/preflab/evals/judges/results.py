"""One judged run from answers to a result: the plan with its controls, the summary, and the files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preflab.core.errors import DataError
from preflab.core.ids import content_id
from preflab.data.examples import Example
from preflab.data.prompts import prompt_text
from preflab.evals.judges import controls, mt_bench
from preflab.evals.judges.agreement import agreement
from preflab.evals.judges.answers import Answers, Item, common_items
from preflab.evals.judges.cases import Case, PairProtocol, SingleProtocol
from preflab.evals.judges.completions import ChatRequest, Reply, Unanswered
from preflab.evals.judges.grading import Grade, Report, grade, report
from preflab.evals.judges.judging import Judge
from preflab.evals.judges.pairwise import Comparison, Standing, compare, pooled, standing
from preflab.evals.judges.verdicts import Verdict
from preflab.stats.bradley_terry import strengths
from preflab.store.artefacts import committed_folder, write_json, write_manifest

RESULT: str = "result.json"
JUDGEMENTS: str = "judgements.parquet"
_FORMAT = 1
_MANY_FAILURES = 0.05
_POSITION_BIAS = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run asks.

    Args:
        protocol: how answers are judged.
        contenders: the models, in the order they were given, then the controls.
        baseline: name of what comparisons are with, or None.
        items: what was answered.
        cases: the judgements, models first.
        human: labels of people by item (1 the contender's answer is better, -1 the baseline's), where they are known.
        pools: models that are one method with several seeds, by the name of the method; summarised together too.
        study: where the answers of a study come from, for whoever reads the result.
    """

    protocol: SingleProtocol | PairProtocol
    contenders: tuple[str, ...]
    baseline: str | None
    items: tuple[Item, ...]
    cases: tuple[Case, ...]
    human: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> list[ChatRequest]:
        """Every request, in the order of the cases."""
        return [request for case in self.cases for request in case.requests]


def plan(
    protocol: SingleProtocol | PairProtocol,
    models: Sequence[Answers],
    baseline: Answers | None = None,
    human: Mapping[str, int] | None = None,
) -> Plan:
    """Return the judgements of models and of both controls.

    Args:
        protocol: how answers are judged.
        models: their answers, all to the same items.
        baseline: what comparisons are with; None for grades.
        human: labels of people by item.

    Raises:
        DataError: models of one name, or models that answered different items.
    """
    return replace(matched_plan(protocol, [(model, baseline) for model in models]), human=human or {})


def matched_plan(protocol: SingleProtocol | PairProtocol, matches: Sequence[tuple[Answers, Answers | None]]) -> Plan:
    """Return the judgements of models, each against a baseline of its own, and of both controls against the first one.

    Args:
        protocol: how answers are judged.
        matches: models and their baselines, which share one name; all answered the same items.

    Raises:
        DataError: models of one name, or models that answered different items.
    """
    baseline = matches[0][1]
    names = [model.name for model, _ in matches] + ([baseline.name] if baseline else [])
    if twice := next((name for name in names if [*names, controls.NULL, controls.INJECTION].count(name) > 1), None):
        raise DataError(f"two files of answers are both called {twice!r}; name them after their models.")
    items = common_items([each for match in matches for each in match if each is not None])
    asked = controls.control_items(items)
    gamers = controls.control_answers(asked, protocol.injection)
    cases: list[Case] = []
    for model, against, on in [*((*match, items) for match in matches), *((each, baseline, asked) for each in gamers)]:
        if isinstance(protocol, SingleProtocol):
            cases += protocol.cases(model, on)
        else:
            assert against is not None, "comparisons have a baseline"
            cases += protocol.cases(model, against, on)
    contenders = (*(model.name for model, _ in matches), *(each.name for each in gamers))
    return Plan(protocol, contenders, baseline.name if baseline else None, tuple(items), tuple(cases))


def pairs_plan(protocol: PairProtocol, examples: Sequence[Example]) -> Plan:
    """Return the judgements of pairs with a known winner, for the agreement of a judge with people.

    Which of the two answers plays the contender is decided by the item's id, so that a judge that prefers a role cannot
    agree by accident.

    Raises:
        DataError: rows without a chosen and a rejected response.
    """
    items, ours, theirs, human = {}, {}, {}, {}
    for example in examples:
        if example.chosen is None or example.rejected is None:
            raise DataError(f"row {example.row}: agreement needs pairs with a chosen and a rejected response.")
        turns = (prompt_text(example.prompt),)
        id_ = content_id([*turns, *sorted([example.chosen, example.rejected])])[:16]
        swapped = int(id_, 16) % 2 == 1
        sides = (example.rejected, example.chosen) if swapped else (example.chosen, example.rejected)
        items[id_] = Item(id_, turns, example.family)
        ours[id_], theirs[id_], human[id_] = (sides[0],), (sides[1],), -1 if swapped else 1
    return plan(protocol, [Answers("one", items, ours)], Answers("other", items, theirs), human)


def judge_plan(
    of: Plan, judge: Judge, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ask the judge everything and return the result as JSON with one record per judgement.

    Raises:
        ConfigError, BudgetReached, RunError: as `Judge.ask_all`.
    """
    replies = judge.ask_all(of.requests, progress)
    found: Sequence[Grade | Comparison] = (
        grade(of.protocol, of.cases, replies)
        if isinstance(of.protocol, SingleProtocol)
        else compare(of.protocol, of.cases, replies)
    )
    summaries = [_summary(name, [each for each in found if each.case.contender == name]) for name in of.contenders]
    n_models = len(of.contenders) - 2
    server = judge.client.server
    document = {
        "format": _FORMAT,
        "protocol": of.protocol.name,
        "prompt_version": of.protocol.version,
        "judge": {
            "url": server.url,
            "model": server.model,
            "answered_as": sorted({each.model for each in replies if isinstance(each, Reply) and each.model}),
        },
        "baseline": of.baseline,
        "items": len(of.items),
        "requests_digest": content_id([judge.cache.key(server, request) for request in of.requests]),
        "models": [_plain(each) for each in summaries[:n_models]],
        "controls": [_plain(each) for each in summaries[n_models:]],
        "control_bounds": {"win_rate": controls.MOST_WIN_RATE, "grade": controls.MOST_GRADE},
        "warnings": [*controls.control_warnings(summaries[n_models:]), *_warnings(of, summaries[:n_models])],
    }
    if isinstance(of.protocol, PairProtocol):
        comparisons = [each for each in found if isinstance(each, Comparison)]
        if of.protocol.battles:
            document["strengths"] = _strengths(of, comparisons)
        if of.study:
            document["study"] = _plain(of.study)
            document["pooled"] = [_plain(_pooled(name, names, comparisons)) for name, names in of.pools.items()]
        if of.human:
            document["agreement"] = _agreement(of, comparisons)
    return document, [_record(each, replies[2 * i : 2 * i + 2] if isinstance(each, Comparison) else replies[i : i + 1])
                      for i, each in enumerate(found)]  # fmt: skip


def write_result(out: Path, document: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Path:
    """Write a result into a new folder under `out`, named after its content, and return the folder.

    It holds `result.json`, `judgements.parquet` with one row per judgement, and a manifest; it appears whole or not at
    all. The same result is written once.
    """
    folder = out / f"{document['protocol']}-{content_id(document)[:12]}"
    with committed_folder(folder) as temporary:
        write_json(temporary / RESULT, document)
        pq.write_table(pa.Table.from_pylist([dict(record) for record in records]), temporary / JUDGEMENTS)
        spec = {"stage": "judge", "protocol": document["protocol"], "requests": document["requests_digest"]}
        write_manifest(temporary, spec, {})
    return folder


def _summary(name: str, found: Sequence[Grade | Comparison]) -> Report | Standing:
    comparisons = [each for each in found if isinstance(each, Comparison)]
    return standing(name, comparisons) if comparisons else report(name, [e for e in found if isinstance(e, Grade)])


def _pooled(name: str, contenders: Sequence[str], found: Sequence[Comparison]) -> Standing:
    return pooled(name, [[each for each in found if each.case.contender == one] for one in contenders])


def _warnings(of: Plan, models: Sequence[Report | Standing]) -> list[str]:
    sentences = []
    for each in models:
        n_calls = sum(len(case.requests) for case in of.cases if case.contender == each.contender)
        failed = sum(each.failures.values())
        if failed > _MANY_FAILURES * n_calls:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(each.failures.items()))
            sentences.append(f"{each.contender}: {failed} of {n_calls} calls gave no verdict ({kinds}).")
        bias = each.first_rate if isinstance(each, Standing) else None
        if bias is not None and abs(bias.estimate - 0.5) > _POSITION_BIAS and not bias.low <= 0.5 <= bias.high:
            sentences.append(
                f"{each.contender}: the answer shown first is preferred in {bias.estimate:.0%} of the calls; both "
                "orders are averaged, but such a judge sees small differences badly."
            )
    lacking = sum(map(mt_bench.needs_reference, of.items)) if of.protocol in (mt_bench.SINGLE, mt_bench.PAIRWISE) else 0
    if lacking:
        sentences.append(f"{lacking} items of mathematics, reasoning or coding were judged without reference answer.")
    return sentences


def _strengths(of: Plan, found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the Bradley-Terry strengths of baseline and models; controls are no players."""
    players = [str(of.baseline), *of.contenders[:-2]]
    rows: list[tuple[int, int, float, str]] = []
    for each in found:
        if each.score is None or each.case.contender not in players:
            continue
        me = players.index(each.case.contender)
        for verdict in (each.first, each.second):
            if isinstance(verdict, Verdict):
                won, lost = verdict.weight * verdict.value, verdict.weight * (1 - verdict.value)
                rows += [(me, 0, won, each.case.item.id)] if won else []
                rows += [(0, me, lost, each.case.item.id)] if lost else []
    if not rows:
        return []
    winners, losers, weights, items = zip(*rows, strict=True)
    fitted = strengths(winners, losers, weights, n_players=len(players), clusters=items)
    return [{"player": name, "strength": _plain(each)} for name, each in zip(players, fitted, strict=True)]


def _agreement(of: Plan, found: Sequence[Comparison]) -> dict[str, Any] | None:
    scored = [
        (np.sign(each.score - 0.5), of.human[each.case.item.id])
        for each in found
        if each.score is not None and each.case.contender == of.contenders[0]
    ]
    return _plain(agreement(*zip(*scored, strict=True))) if scored else None


def _record(each: Grade | Comparison, replies: Sequence[Reply | Unanswered]) -> dict[str, Any]:
    case = each.case
    record: dict[str, Any] = {
        "contender": case.contender, "control": case.contender in (controls.NULL, controls.INJECTION),
        "item": case.item.id, "category": case.item.category, "turn": case.turn + 1, "length": len(case.answer),
    }  # fmt: skip
    if isinstance(each, Grade):
        record |= {"grade": each.value} | _call("", each.verdict, replies[0])
    else:
        record |= {"score": each.score, "baseline_length": len(case.opponent or "")}
        record |= _call("_first", each.first, replies[0]) | _call("_second", each.second, replies[1])
        for order, verdict in (("first", each.first), ("second", each.second)):
            record[f"preference_{order}"] = verdict.value if isinstance(verdict, Verdict) else None
            record[f"weight_{order}"] = verdict.weight if isinstance(verdict, Verdict) else None
    return record


def _call(suffix: str, verdict: Verdict | str, reply: Reply | Unanswered) -> dict[str, Any]:
    return {
        f"failure{suffix}": None if isinstance(verdict, Verdict) else verdict,
        f"reply{suffix}": reply.text if isinstance(reply, Reply) else reply.cause,
    }


def _plain(value: Any) -> Any:
    """Return a dataclass as JSON: numbers that are not finite become null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
