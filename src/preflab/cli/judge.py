"""`preflab judge`: answers judged by a language model behind an OpenAI-compatible server."""

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App, Parameter

from preflab.cli.answers import answer
from preflab.cli.judging import Server, Spend, run_plans
from preflab.cli.study import Json

if TYPE_CHECKING:
    from preflab.evals.judges.answers import Answers
    from preflab.evals.judges.cases import PairProtocol, SingleProtocol
    from preflab.evals.judges.results import Plan

app = App(name="judge", help="Judge answers with a language model, and check the judge.")
app.command(answer)
_FREELY = Spend()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Against:
    """What answers are compared with.

    Args:
        baseline: file of the answers to compare with.
        study: folder or file of a study, in place of files: each method's sampled answers are compared with those that
            its start point gave.
        split: prompts of the study.
    """

    baseline: Path | None = None
    study: Path | None = None
    split: Literal["test", "ood"] = "test"


@app.command(name="mt-bench")
def mt_bench(
    *answers: Path,
    judge: Server,
    baseline: Path | None = None,
    questions: Path | None = None,
    references: Path | None = None,
    spend: Spend = _FREELY,
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
    against: Against = Against(),
    spend: Spend = _FREELY,
    out: Path | None = None,
    json_: Json = False,
) -> int:
    """Compare with a baseline by the probability of the judge's first token, as AlpacaEval does, in both orders.

    The server must return log-probs. Beside the win rate stands the length-adjusted one (length-only GLM).

    Examples:
        preflab judge preference dpo.jsonl simpo.jsonl --baseline sft.jsonl --server http://127.0.0.1:8000/v1 --model j
        preflab judge preference --study runs/my-study --server http://127.0.0.1:8000/v1 --model j --preview

    Args:
        answers: files of answers, named after their models; rows with prompt and response.
        judge: who judges.
        against: what they are compared with.
        spend: what it may cost.
        out: folder for results; default: runs/judge, or judged in the study, where its report finds them.
        json_: print JSON.
    """
    from preflab.evals.judges.preference import PREFERENCE

    return _compare(PREFERENCE, answers, against, judge, spend, out, json_)


@app.command(name="five-way")
def five_way(
    *answers: Path,
    judge: Server,
    against: Against = Against(),
    spend: Spend = _FREELY,
    out: Path | None = None,
    json_: Json = False,
) -> int:
    """Compare with a baseline by verdicts from A>>B to B>>A in both orders, as Arena-Hard does, with Bradley-Terry.

    Examples:
        preflab judge five-way dpo.jsonl simpo.jsonl --baseline sft.jsonl --server http://127.0.0.1:8000/v1 --model j
        preflab judge five-way --study runs/my-study --server http://127.0.0.1:8000/v1 --model j --preview

    Args:
        answers: files of answers, named after their models; rows with prompt and response.
        judge: who judges.
        against: what they are compared with.
        spend: what it may cost.
        out: folder for results; default: runs/judge, or judged in the study, where its report finds them.
        json_: print JSON.
    """
    from preflab.evals.judges.five_way import FIVE_WAY

    return _compare(FIVE_WAY, answers, against, judge, spend, out, json_)


@app.command
def agreement(
    pairs: str,
    /,
    *,
    judge: Server,
    protocol: Literal["preference", "mt-bench", "five-way"] = "preference",
    rows: int = 200,
    split: str = "train",
    spend: Spend = _FREELY,
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


def _compare(
    protocol: "PairProtocol",
    files: tuple[Path, ...],
    against: Against,
    server: Server,
    spend: Spend,
    out: Path | None,
    json_: bool,
) -> int:
    from preflab.core.errors import ConfigError

    if against.study is None:
        if against.baseline is None:
            raise ConfigError("--baseline: name the answers to compare with, or a --study.")
        return _judge(protocol, files, against.baseline, server, spend, out or Path("runs/judge"), json_)
    if files or against.baseline or out:
        raise ConfigError("--study: brings its own answers and keeps the results; leave files, --baseline and --out.")
    from preflab.report.load import JUDGED
    from preflab.store.ledger import study_lock
    from preflab.studies.judged import study_plans, write_judged
    from preflab.studies.study_file import study_folder

    study = study_folder(against.study)
    plans = study_plans(study, protocol, against.split)
    # Two runs would forget each other's results in the index of them.
    with contextlib.nullcontext() if spend.preview else study_lock(study / JUDGED):
        return run_plans(plans, functools.partial(write_judged, study), server, spend, json_)


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


def _run(of: "Plan", server: Server, spend: Spend, out: Path, json_: bool) -> int:
    from preflab.evals.judges.results import write_result

    return run_plans([of], functools.partial(write_result, out), server, spend, json_)
