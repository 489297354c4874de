"""Running what `preflab judge` asks for: preview, spend cap, results and tables."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from preflab.evals.judges.results import Plan

_JUDGE, _SPEND = (Group.create_ordered(name) for name in ("The judge", "What it may cost"))


@Parameter(name="*", group=_JUDGE)
@dataclass(frozen=True, kw_only=True)
class Server:
    """The judge.

    Args:
        server: base address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1.
        model: the judge's name there.
        key_env: environment variable that holds the key; without it no key is sent.
        concurrency: calls open at once.
        timeout_s: longest time of a call, seconds.
    """

    server: str
    model: str
    key_env: str | None = None
    concurrency: int = 4
    timeout_s: float = 120.0


@Parameter(name="*", group=_SPEND)
@dataclass(frozen=True, kw_only=True)
class Spend:
    """What judging may cost.

    Args:
        preview: show what would leave this machine and what it would cost at most; send nothing.
        max_requests: most HTTP requests of this run.
        max_tokens: most tokens of this run, prompts and replies together.
        max_cost: most money of this run, in the currency of the prices.
        prompt_price: price of a million prompt tokens.
        completion_price: price of a million tokens of replies.
    """

    preview: Annotated[bool, Parameter(negative=())] = False
    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    prompt_price: float | None = None
    completion_price: float | None = None


def run_plans(
    plans: Sequence["Plan"],
    write: Callable[[dict[str, Any], list[dict[str, Any]]], Path],
    given: Server,
    spend: Spend,
    json_: bool,
) -> int:
    """Ask a judge what some plans want, within one spend cap, and write and print each result as it is there.

    Args:
        plans: what is asked.
        write: writes the result of a plan, and returns the folder.
        given: the judge.
        spend: what it may cost.
        json_: print JSON.
    """
    from preflab.evals.judges import client, judging
    from preflab.evals.judges.budget import Budget, Limits
    from preflab.evals.judges.replies import ReplyCache
    from preflab.evals.judges.results import judge_plan

    server = client.Server(given.server, given.model, key_env=given.key_env, timeout_s=given.timeout_s)
    limits = Limits(
        requests=spend.max_requests,
        tokens=spend.max_tokens,
        cost=spend.max_cost,
        prompt_price=spend.prompt_price,
        completion_price=spend.completion_price,
    )
    cache = ReplyCache()
    if spend.preview:
        shown = judging.preview([request for plan in plans for request in plan.requests], server, cache, limits)
        print(json.dumps(shown, indent=1, ensure_ascii=False) if json_ else _preview_text(shown))
        return 0
    budget = Budget(limits)
    found = []
    with client.ChatClient(server, budget) as asker:
        for plan in plans:
            document, records = judge_plan(plan, judging.Judge(asker, cache, given.concurrency), _say)
            found.append({"folder": str(write(document, records)), **document})
    spent = {"requests": budget.requests, "prompt_tokens": budget.tokens.prompt,
             "completion_tokens": budget.tokens.completion, "cost": budget.cost}  # fmt: skip
    if json_:
        of_study = any("study" in each for each in found)
        printed = {"spent": spent, "results": found} if of_study else {"spent": spent, **found[0]}
        print(json.dumps(printed, indent=1, ensure_ascii=False))
        return 0
    for each in found:
        if of := each.get("study"):
            print(f"from {of['start']}, {of['split']} prompts, against the start point's own answers:")
        _print(each)
        print(each["folder"])
    cost = "" if budget.cost is None else f", cost {budget.cost:.2f}"
    tokens = f"{budget.tokens.prompt:,} + {budget.tokens.completion:,} tokens"
    print(f"{budget.requests} requests sent, {tokens}{cost}", file=sys.stderr)
    return 0


def _say(done: int, total: int) -> None:
    if done == total or done % 25 == 0:
        print(f"{done} of {total} calls", file=sys.stderr, flush=True)


def _preview_text(shown: dict[str, Any]) -> str:
    counts = shown["requests"]
    place = "this machine" if shown["stays_on_this_machine"] else "ANOTHER MACHINE"
    lines = [
        f"would ask {shown['model']} at {shown['url']} ({place}), "
        + (f"with the key in {shown['key_from']}" if shown["key_from"] else "without a key"),
        f"{counts['to_send']} requests to send ({counts['cached']} of {counts['wanted']} are in the cache)",
        f"about {shown['estimated_prompt_tokens']:,} prompt tokens, at most {shown['most_completion_tokens']:,} tokens "
        "of replies" + ("" if shown["most_cost"] is None else f", at most {shown['most_cost']:.2f} in money"),
    ]
    for number, body in enumerate(shown["examples"], start=1):
        lines += ["", f"example {number}:", *(f"[{m['role']}] {m['content']}" for m in body["messages"])]
    lines += ["", "nothing was sent"]
    return "\n".join(_visible(line) for line in lines)


def _visible(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    graded = document["baseline"] is None
    pooled, models = document.get("pooled", []), document["models"]
    over = "items, of several seeds over items and seeds" if pooled else "items"
    table = Table(box=None, pad_edge=False, caption=f"with 95 % intervals over {over}", caption_justify="left")
    names = (
        ("judged", "grade", "by turn") if graded else ("judged", "win rate", "length-adjusted", "first shown", "chars")
    )
    table.add_column("answers")
    for name in names:
        table.add_column(name, justify="right")
    # A method with one seed is its seed.
    for each in [*pooled, *(models if len(models) > len(pooled) else []), *document["controls"]]:
        judged = f"{each['n_judged']}/{each['n']}"
        if graded:
            by_turn = ", ".join("–" if turn is None else f"{turn['estimate']:.2f}" for turn in each["turns"])
            cells = [_interval(each["score"], 1, 2), by_turn]
        else:
            adjusted = each["length_adjusted"]
            lengths = "–" if each["mean_length"] is None else f"{each['mean_length']:.0f}/{each['baseline_length']:.0f}"
            cells = [_interval(each["win_rate"]), _interval(adjusted and adjusted["rate"]),
                     _interval(each["first_rate"]), lengths]  # fmt: skip
        table.add_row(escape(_visible(each["contender"])), judged, *cells)
    console.print(table)
    for each in document.get("strengths", []):
        console.print(f"strength of {escape(_visible(each['player']))}: {_interval(each['strength'], 1, 2)} nats")
    if found := document.get("agreement"):
        console.print(
            f"agreement with people on {found['n']} pairs: {_interval(found['accuracy'])} %, "
            f"kappa {_interval(found['kappa'], 1, 2)}, {found['ties']} ties of the judge"
        )
    for each in document["models"]:
        if each["failures"]:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(each["failures"].items()))
            console.print(f"{escape(_visible(each['contender']))}: calls without verdict: {kinds}")
    for sentence in document["warnings"]:
        console.print(f"warning: {escape(_visible(sentence))}", style="yellow")


def _interval(found: dict[str, Any] | None, scale: float = 100, digits: int = 1) -> str:
    if found is None or found["estimate"] is None:
        return "–"
    text = f"{scale * found['estimate']:.{digits}f}"
    if found["low"] is None or found["high"] is None:
        return text
    return f"{text} ({scale * found['low']:.{digits}f} to {scale * found['high']:.{digits}f})"
