"""`preflab data pairs` and `preflab data constraints`: where preference data come from."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from preflab.cli.study import Json

if TYPE_CHECKING:
    from preflab.data.pairs import CurationSettings
    from preflab.sampling.search import SearchSettings

_SIDES, _SAMPLING, _FACTORS = (
    Group.create_ordered(name) for name in ("Where answers come from", "Sampling", "Curation and controlled factors")
)
_SEARCH, _DATA = (Group.create_ordered(name) for name in ("Tree search (curation siblings)", "Prompts"))
Origin = Literal["model", "data", "other"]


@Parameter(name="*", group=_SIDES)
@dataclass(frozen=True, kw_only=True)
class Sides:
    """Where answers come from.

    Args:
        chosen: answers that may be chosen: sampled from MODEL (on-policy), the data's own, or another model's.
        rejected: answers that may be rejected, likewise.
        other: the other model.
    """

    chosen: Origin = "model"
    rejected: Origin = "model"
    other: str | None = None


@Parameter(name="*", group=_SAMPLING)
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are sampled: at temperature 1, from one named stream per prompt and sample.

    Args:
        samples: answers to each prompt; default 8.
        max_new_tokens: of an answer; answers that are cut there are counted and left out.
        batch_size: prompts decoded together, and committed together.
        seed: of every draw.
        engine: who samples.
    """

    samples: int | None = None
    max_new_tokens: int = 256
    batch_size: int = 32
    seed: int = 0
    engine: Literal["transformers", "vllm"] = "transformers"


@Parameter(name="*", group=_FACTORS)
@dataclass(frozen=True, kw_only=True)
class Factors:
    """How pairs are made of scored answers.

    Args:
        curation: best against worst; one at or above --high against one at or below --low; statistical rejection
            sampling (RSO); a random pair within the ranges; two answers that part inside a search tree.
        noise: chance that the labels of a pair are swapped.
        min_gap: least difference of scores.
        max_gap: largest difference of scores.
        min_prefix: fewest tokens that both answers begin with.
        max_prefix: most tokens that both answers begin with.
        high: threshold: least score of a chosen answer.
        low: threshold: largest score of a rejected answer.
        beta: rejection: temperature, in units of the score; default 0.5.
        accepted: rejection: answers drawn for each prompt, half as many pairs; default 2.
        ches_below: share of the pairs that stay, those least similar by CHES score.
    """

    curation: Literal["best-worst", "threshold", "rejection", "random-gap", "siblings"] = "best-worst"
    noise: float = 0.0
    min_gap: float | None = None
    max_gap: float | None = None
    min_prefix: int | None = None
    max_prefix: int | None = None
    high: float | None = None
    low: float | None = None
    beta: float | None = None
    accepted: int | None = None
    ches_below: float | None = None


@Parameter(name="*", group=_SEARCH)
@dataclass(frozen=True, kw_only=True)
class Search:
    """How trees grow.

    Args:
        simulations: whole answers sampled for each prompt, in place of --samples; default 16.
        width: times that the next step behind a node is sampled; default 3.
        step_tokens: tokens of a step that no line break ends before; default 16.
        exploration: UCT's constant, in units of the score; default 1.4.
    """

    simulations: int | None = None
    width: int | None = None
    step_tokens: int | None = None
    exploration: float | None = None


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which prompts.

    Args:
        rows: first distinct prompts to use; default: all.
        split: split of a Hub data set, or of a folder whose files are named after splits.
        template: how prompts become text: conversations by the chat template and texts as they are (auto), everything
            by the chat template (chat), or as data.template of a study has it; use the same one there.
        columns: the file's own column names, such as prompt=question,completion=answer.
        exclude: row problems to leave out, as `preflab data check` names them.
    """

    rows: int | None = None
    split: str = "train"
    template: Literal["auto", "chat", "plain", "none"] = "auto"
    columns: str = ""
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = ()


def pairs(
    model: str,
    /,
    *,
    prompts: str,
    out: Path,
    reward: str,
    sides: Sides = Sides(),
    factors: Factors = Factors(),
    sampling: Sampling = Sampling(),
    search: Search = Search(),
    rows: Rows = Rows(),
    json_: Json = False,
) -> None:
    """Make preference pairs: sample answers, score them by a reward, and pair them by a named curation.

    The same command continues what was stopped and does nothing where it is done; other curations of the same prompts
    use the answers that are there. What was counted lies beside the file, under its name with .about behind.

    Examples:
        preflab data pairs pocket:base --prompts pocket:pairs --reward pocket --out pairs.jsonl --rows 128
        preflab data pairs my-model --prompts train.jsonl --reward math --chosen data --rejected model --out s2.jsonl
        preflab data pairs my-model --prompts form.jsonl --reward constraints --curation siblings --out shared.jsonl

    Args:
        model: the model that pairs are made for: folder, adapter, Hub id or pocket:base.
        prompts: rows in any format that preflab reads, or nothing but prompts.
        out: the JSONL file to write.
        reward: pocket, constraints, math, last-number, sentiment, path/to/file.py:NAME, or folder or Hub id of a reward
            model.
        sides: where answers come from.
        factors: how pairs are made.
        sampling: how answers are sampled.
        search: how trees grow.
        rows: which prompts.
        json_: print the counts as one JSON document.
    """
    import shlex

    from preflab.cli.data import mapping
    from preflab.studies.answers import Settings
    from preflab.studies.pair_accounts import account_text
    from preflab.studies.pairs import Request, make_pairs

    tree = _tree(factors.curation, search, sampling.max_new_tokens)
    request = Request(
        model=model,
        prompts=prompts,
        reward=reward,
        curation=_curation(factors),
        chosen=sides.chosen,
        rejected=sides.rejected,
        other=sides.other,
        settings=Settings(
            samples=_samples(sampling.samples, tree),
            max_new_tokens=sampling.max_new_tokens,
            batch_size=sampling.batch_size,
            seed=sampling.seed,
            engine=sampling.engine,
            template=rows.template,
        ),
        search=tree,
        rows=rows.rows,
        noise=factors.noise,
        ches_below=factors.ches_below,
        split=rows.split,
        columns=mapping(rows.columns),
        exclude=rows.exclude,
    )
    command = shlex.join(["preflab", *sys.argv[1:]])
    account = make_pairs(request, out, command=command, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(account, indent=1, ensure_ascii=False) if json_ else f"{account_text(account)}\n{out}")


def _curation(given: Factors) -> "CurationSettings":
    from preflab.data.pairs import CurationSettings, Ranges

    names = ("min_gap", "max_gap", "min_prefix", "max_prefix")
    ranges = Ranges(**{name: getattr(given, name) for name in names if getattr(given, name) is not None})
    sampled = given.curation == "rejection"
    return CurationSettings(
        name=given.curation,
        ranges=ranges,
        high=given.high,
        low=given.low,
        beta=0.5 if sampled and given.beta is None else given.beta,
        accepted=2 if sampled and given.accepted is None else given.accepted,
    )


def _tree(curation: str, given: Search, max_new_tokens: int) -> "SearchSettings | None":
    from dataclasses import asdict

    from preflab.core.errors import ConfigError
    from preflab.sampling.search import SearchSettings

    values = {name: value for name, value in asdict(given).items() if value is not None}
    if curation == "siblings":
        defaults = {"simulations": 16, "width": 3, "step_tokens": 16, "exploration": 1.4}
        return SearchSettings(**{**defaults, **values}, max_new_tokens=max_new_tokens)
    if values:
        raise ConfigError(f"--{next(iter(values)).replace('_', '-')}: belongs to --curation siblings.")
    return None


def _samples(given: int | None, tree: "SearchSettings | None") -> int:
    from preflab.core.errors import ConfigError

    if tree is not None and given is not None:
        raise ConfigError("--samples: a tree is sized by --simulations.")
    return tree.simulations if tree is not None else 8 if given is None else given


def constraints(*, out: Path, n: int = 256, most: int = 3, seed: int = 0) -> None:
    """Write prompts with constraints that a program can check, for the reward `constraints`.

    Plain instructions from a built-in list with 1, 2, ... constraints each: numbers of words, sentences, bullets or
    paragraphs, words to use or avoid, beginnings and endings, case, JSON, titles and others, as in IFEval.

    Examples:
        preflab data constraints --out form.jsonl --n 1000 --most 4
        preflab data pairs my-model --prompts form.jsonl --reward constraints --out pairs.jsonl

    Args:
        out: the JSONL file to write.
        n: prompts.
        most: largest number of constraints of a prompt; as many have 1, 2, ... of them.
        seed: of the draws.
    """
    from preflab.core.errors import ConfigError
    from preflab.evals.constraints import constraint_prompts
    from preflab.store.artefacts import write_text

    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in constraint_prompts(n, most=most, seed=seed))
    if out.exists() and out.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{out}: already there with other content; name another --out or move it away.")
    write_text(out, text)
    print(out)
