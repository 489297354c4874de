"""`preflab judge`: answers judged by a language model behind an OpenAI-compatible server."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from preflab.cli.answers import answer
from preflab.cli.study import Json

if TYPE_CHECKING:
    from preflab.evals.judges.answers import Answers
    from preflab.evals.judges.cases import PairProtocol, SingleProtocol
    from preflab.evals.judges.results import Plan

app = App(name="judge", help="Judge answers with a language model, and check the judge.")
app.command(answer)
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


@app.command(name="mt-bench")
def mt_bench(
    *answers: Path,
    judge: Server,
    baseline: Path | None = None,
    questions: Path | None = None,
    references: Path | None = None,
    spend: Spend = Spend(),
    out: Path = Path("runs/judge"),
    json_: Json = False,
) -> int:
    """Grade every turn from 1 to 10, or compare with a baseline in both orders, as MT-Bench does.

    A file holds one model's answers, a row each: prompt and response, both lists where there are several turns, and
    perhaps category and reference; or FastChat's own format together with --questions.

    Examples:
        preflab judge mt-bench answers/*.jsonl --server http://127.0.0.1:8000/v1 --model my-judge --preview
        preflab judge mt-bench dpo.jsonl --baseline sft.jsonl --server https://host/v1 --model m --key-env JUDGE_KEY

    Args:
        answers: files of answers, named after their models.
        judge: who judges.
        baseline: answers to compare with; without it answers are graded one by one.
        questions: FastChat's file of questions (question_id, category, turns).
        references: FastChat's file of reference answers.
        spend: what it may cost.
        out: folder for results.
        json_: print JSON.
    """
    from preflab.core.errors import ConfigError
    from preflab.evals.judges.answers import read_questions
    from preflab.evals.judges.mt_bench import PAIRWISE, SINGLE

    if references is not None and questions is None:
        raise ConfigError("--references: belongs to --questions; rows of answers carry their own reference.")
    known = None if questions is None else read_questions(questions, references)
    return _judge(SINGLE if baseline is None else PAIRWISE, answers, baseline, judge, spend, out, json_, known)


@app.command
def preference(
    *answers: Path,
    judge: Server,
    baseline: Path,
    spend: Spend = Spend(),
    out: Path = Path("runs/judge"),
    json_: Json = False,
) -> int:
    """Compare with a baseline by the probability of the judge's first token, as AlpacaEval does, in both orders.

    The server must return log-probs. Beside the win rate stands the length-adjusted one (length-only GLM).

    Examples:
        preflab judge preference dpo.jsonl simpo.jsonl --baseline sft.jsonl --server http://127.0.0.1:8000/v1 --model j

    Args:
        answers: files of answers, named after their models; rows with prompt and response.
        judge: who judges.
        baseline: answers to compare with.
        spend: what it may cost.
        out: folder for results.
        json_: print JSON.
    """
    from preflab.evals.judges.preference import PREFERENCE

    return _judge(PREFERENCE, answers, baseline, judge, spend, out, json_)


@app.command(name="five-way")
def five_way(
    *answers: Path,
    judge: Server,
    baseline: Path,
    spend: Spend = Spend(),
    out: Path = Path("runs/judge"),
    json_: Json = False,
) -> int:
    """Compare with a baseline by verdicts from A>>B to B>>A in both orders, as Arena-Hard does, with Bradley-Terry.

    Examples:
        preflab judge five-way dpo.jsonl simpo.jsonl --baseline sft.jsonl --server http://127.0.0.1:8000/v1 --model j

    Args:
        answers: files of answers, named after their models; rows with prompt and response.
        judge: who judges.
        baseline: answers to compare with.
        spend: what it may cost.
        out: folder for results.
        json_: print JSON.
    """
    from preflab.evals.judges.five_way import FIVE_WAY

    return _judge(FIVE_WAY, answers, baseline, judge, spend, out, json_)


@app.command
def agreement(
    pairs: str,
    /,
    *,
    judge: Server,
    protocol: Literal["preference", "mt-bench", "five-way"] = "preference",
    rows: int = 200,
    split: str = "train",
    spend: Spend = Spend(),
    out: Path = Path("runs/judge"),
    json_: Json = False,
) -> int:
    """Say how often a judge agrees with people, on preference pairs whose winner they chose.

    Examples:
        preflab judge agreement human-pairs.jsonl --server http://127.0.0.1:8000/v1 --model my-judge --rows 100

    Args:
        pairs: pairs with chosen and rejected responses, in any format that preflab reads.
        judge: who judges.
        protocol: how it judges.
        rows: first rows to use.
        split: split of a Hub data set, or of a folder whose files are named after splits.
        spend: what it may cost.
        out: folder for results.
        json_: print JSON.
    """
    from preflab.core.errors import ConfigError
    from preflab.data.read import read
    from preflab.evals.judges.five_way import FIVE_WAY
    from preflab.evals.judges.mt_bench import PAIRWISE
    from preflab.evals.judges.preference import PREFERENCE
    from preflab.evals.judges.results import pairs_plan

    if rows < 1:
        raise ConfigError(f"--rows: must be at least 1; got {rows}.")
    chosen = {"preference": PREFERENCE, "mt-bench": PAIRWISE, "five-way": FIVE_WAY}[protocol]
    examples = read(pairs, split=split, kind="paired").examples[:rows]
    return _run(pairs_plan(chosen, examples), judge, spend, out, json_)


def _judge(
    protocol: "SingleProtocol | PairProtocol",
    files: tuple[Path, ...],
    baseline: Path | None,
    server: Server,
    spend: Spend,
    out: Path,
    json_: bool,
    questions: Any = None,
) -> int:
    from preflab.core.errors import ConfigError
    from preflab.evals.judges.answers import read_answers
    from preflab.evals.judges.results import plan

    if not files:
        raise ConfigError("name at least one file of answers, such as dpo.jsonl.")
    models: list[Answers] = [read_answers(path, questions) for path in files]
    against = None if baseline is None else read_answers(baseline, questions)
    return _run(plan(protocol, models, against), server, spend, out, json_)


def _run(plan: "Plan", given: Server, spend: Spend, out: Path, json_: bool) -> int:
    from preflab.evals.judges import client, judging
    from preflab.evals.judges.budget import Budget, Limits
    from preflab.evals.judges.replies import ReplyCache
    from preflab.evals.judges.results import judge_plan, write_result

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
        shown = judging.preview(plan.requests, server, cache, limits)
        print(json.dumps(shown, indent=1, ensure_ascii=False) if json_ else _preview_text(shown))
        return 0
    budget = Budget(limits)
    with client.ChatClient(server, budget) as asker:
        document, records = judge_plan(plan, judging.Judge(asker, cache, given.concurrency), _say)
    folder = write_result(out, document, records)
    spent = {"requests": budget.requests, "prompt_tokens": budget.tokens.prompt,
             "completion_tokens": budget.tokens.completion, "cost": budget.cost}  # fmt: skip
    if json_:
        print(json.dumps({"folder": str(folder), "spent": spent, **document}, indent=1, ensure_ascii=False))
        return 0
    _print(document)
    cost = "" if budget.cost is None else f", cost {budget.cost:.2f}"
    tokens = f"{budget.tokens.prompt:,} + {budget.tokens.completion:,} tokens"
    print(f"{budget.requests} requests sent, {tokens}{cost}", file=sys.stderr)
    print(folder)
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
    table = Table(box=None, pad_edge=False, caption="with 95 % intervals over items", caption_justify="left")
    names = (
        ("judged", "grade", "by turn") if graded else ("judged", "win rate", "length-adjusted", "first shown", "chars")
    )
    table.add_column("answers")
    for name in names:
        table.add_column(name, justify="right")
    for each in [*document["models"], *document["controls"]]:
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
