"""`preflab data pairs`: preference pairs from answers of a model, of another one, or of the data themselves."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from preflab.core.errors import ConfigError, DataError
from preflab.core.ids import canonical_json, content_id, digest_of, file_digest
from preflab.core.seeds import uniform
from preflab.data.check import check, exclude
from preflab.data.examples import Example, TokenRow
from preflab.data.pairs import LEFT_OUT, REASONS, Answer, Curated, CurationSettings, Pair, curate
from preflab.data.prompts import fingerprints
from preflab.data.read import Dataset, read
from preflab.data.tokens import tokenize
from preflab.models.devices import default_device
from preflab.models.load import quiet
from preflab.sampling.search import SearchSettings
from preflab.store.artefacts import write_json, write_text
from preflab.studies.answers import (
    Answerer,
    Candidate,
    Say,
    Settings,
    ches_scores,
    sampled,
    scored,
    searched,
    store,
)
from preflab.studies.config import SourceConfig
from preflab.studies.names import data_source
from preflab.studies.pair_accounts import Made, describe_answers, describe_pairs, reasons
from preflab.studies.scorers import Scorer

Origin = Literal["model", "data", "other"]
_VERSION = 1
_NEEDS_ANSWER: Final = ("math", "last-number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which pairs to make.

    Args:
        model: the model that pairs are made for: folder, adapter, Hub id or `pocket:base`.
        prompts: rows in any format, or nothing but prompts.
        reward: a name, `path/to/file.py:NAME`, or a reward model.
        curation: how pairs are made from scored answers.
        chosen: where chosen answers come from.
        rejected: where rejected answers come from.
        other: the other model, where a side comes from it.
        settings: how answers are sampled.
        search: how trees grow, for the curation `siblings`.
        rows: first prompts to use; None uses all.
        noise: chance in [0, 1] that the labels of a pair are swapped.
        ches_below: share in (0, 1) of the pairs that stay, those that are least similar by CHES; None keeps all.
        split: split of a Hub data set or a folder.
        columns: our name of a column to the file's.
        exclude: row problems to leave out.

    Raises:
        ConfigError: values that make no sense, or not together.
    """

    model: str
    prompts: str
    reward: str
    curation: CurationSettings
    chosen: Origin
    rejected: Origin
    other: str | None
    settings: Settings
    search: SearchSettings | None
    rows: int | None
    noise: float
    ches_below: float | None
    split: str
    columns: Mapping[str, str]
    exclude: tuple[str, ...]

    def __post_init__(self) -> None:
        sides, curation = {self.chosen, self.rejected}, self.curation.name
        least = {"samples": 1, "max_new_tokens": 1, "batch_size": 1}
        values: list[tuple[str, int, int]] = [(name, getattr(self.settings, name), low) for name, low in least.items()]
        for name, value, low in [*values, ("rows", 1 if self.rows is None else self.rows, 1)]:
            if value < low:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least {low}; got {value}.")
        if not 0 <= self.noise <= 1:
            raise ConfigError(f"--noise: must be in [0, 1]; got {self.noise}.")
        if self.ches_below is not None and not 0 < self.ches_below < 1:
            raise ConfigError(f"--ches-below: must be in (0, 1), the share of pairs that stay; got {self.ches_below}.")
        if ("other" in sides) != (self.other is not None):
            raise ConfigError("--other names the model that answers come from with --chosen other or --rejected other.")
        if curation == "rejection" and len(sides) > 1:
            raise ConfigError(
                "--curation rejection: draws both sides from one pool; give --chosen and --rejected alike."
            )
        if curation == "siblings" and sides != {"model"}:
            raise ConfigError(
                "--curation siblings: both sides are of one tree; leave --chosen and --rejected at model."
            )
        if curation != "siblings" and len(sides) == 1 and sides != {"data"} and self.settings.samples < 2:
            raise ConfigError("--samples: one answer makes no pair; ask for at least 2.")


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The prompts to use, and what was counted while reading them."""

    examples: tuple[Example, ...]
    detected: str
    counts: Mapping[str, int]


def make_pairs(request: Request, out: Path, *, command: str, say: Say) -> dict[str, Any]:
    """Sample or find answers, score them, and write a file of pairs with an account of it beside it.

    The same request finds its file and does nothing; a request that was stopped finds the answers that were committed.

    Args:
        request: which pairs to make.
        out: the JSONL file.
        command: what was typed.
        say: called with a line of progress.

    Raises:
        ConfigError: a model or a reward that cannot be had, or a file in the way.
        DataError: prompts that need mending, a reward that fails on one, or no pair.

    Returns:
        The account, as written beside the file: `summary` says what it holds.
    """
    began = time.monotonic()
    quiet()
    store().sweep()
    answerers = {"model": Answerer.named(request.model, request.settings)}
    if request.other is not None:
        answerers["other"] = Answerer.named(request.other, request.settings)
    scorer = Scorer(
        request.reward,
        "--reward",
        default_device(),
        source=request.prompts,
        batch_size=request.settings.batch_size,
        template=request.settings.template,
    )
    prompts = _read(request, list(answerers.values()))
    identity = _identity(request, answerers, scorer, prompts)
    if (there := _there(out, identity)) is not None:
        say(f"{out}: already made by this command; nothing to do")
        return there
    candidates = _candidates(request, answerers, scorer, prompts.examples, say)
    made, counts = _curated(request, answerers["model"], prompts.examples, candidates)
    made, counts["pairs_left_out"]["high_ches"] = _without_similar(request, answerers["model"], made)
    account = {
        "schema_version": 1,
        "id": identity,
        "command": command,
        "file": str(out),
        "settings": _settings_json(request),
        "prompts": {"source": request.prompts, "detected": prompts.detected, **prompts.counts},
        "answers": {
            origin: describe_answers(origin, candidates) for origin in sorted({request.chosen, request.rejected})
        },
        "pairs": describe_pairs(made),
        **counts,
    }
    if not made:
        raise DataError(f"{request.prompts}: no pair came of it.\n" + "\n".join(reasons(account)))
    write_text(out, "".join(json.dumps(_row(request, each), ensure_ascii=False) + "\n" for each in made))
    account |= {"sha256": file_digest(out), "seconds": round(time.monotonic() - began, 1)}
    write_json(about(out), account)
    return account


def about(out: Path) -> Path:
    """Return where the account of a file of pairs lies; its name is none that a folder of data is read by."""
    return out.with_name(out.name + ".about")


def _read(request: Request, answerers: Sequence[Answerer]) -> _Prompts:
    """Read, check and thin out the prompts; responses are checked only where they can become sides."""
    source = data_source(SourceConfig(path=request.prompts, split=request.split))
    dataset = read(source.path, split=source.split, columns=request.columns, kind="prompts")
    n, detected = len(dataset.examples), dataset.detected
    examples = tuple(_with_answer(example, request.reward) for example in dataset.examples)
    if "data" in (request.chosen, request.rejected):
        if dataset.kind == "prompts":
            raise DataError(f"{request.prompts}: these rows hold no responses, so none can come from the data.")
    else:
        bare = (replace(e, chosen=None, rejected=None, others={}, scores={}) for e in examples)
        examples, dataset = tuple(bare), replace(dataset, kind="prompts")
    dataset = replace(dataset, examples=examples)
    for answerer in answerers:
        problems = check(dataset, tokenizer=answerer.tokenizer, tokens=answerer.limits)
        dataset, _ = exclude(dataset, problems, request.exclude, study=False)
    distinct = _distinct(dataset)
    used = distinct[: request.rows]
    counts = {
        "rows": n,
        "excluded": n - len(dataset.examples),
        "repeated": len(dataset.examples) - len(distinct),
        "beyond_rows": len(distinct) - len(used),
        "used": len(used),
    }
    return _Prompts(used, detected, counts)


def _distinct(dataset: Dataset) -> tuple[Example, ...]:
    """Return the first row of each prompt."""
    first = dict(zip(reversed(fingerprints(dataset.examples)), reversed(dataset.examples), strict=True))
    return tuple(sorted(first.values(), key=lambda example: example.row))


def _with_answer(example: Example, reward: str) -> Example:
    """Give a verifier of mathematics the row's own solution where the row names no answer."""
    if reward not in _NEEDS_ANSWER or "answer" in example.meta or example.chosen is None:
        return example
    return replace(example, meta={**example.meta, "answer": example.chosen})


def _identity(request: Request, answerers: Mapping[str, Answerer], scorer: Scorer, prompts: _Prompts) -> str:
    """Return the id of everything that the file depends on; paths and names are none of it."""
    rows = (canonical_json([e.row, e.prompt, e.family, e.responses, dict(e.meta)]) for e in prompts.examples)
    return content_id(
        {
            "version": _VERSION,
            "settings": _settings_json(request),
            "models": {role: answerer.digests for role, answerer in answerers.items()},
            "reward": scorer.digest,
            "rows": digest_of(rows),
        }
    )


def _settings_json(request: Request) -> dict[str, Any]:
    """Return what the user chose, without what the digests of models, reward and rows say better."""
    ranges = {k: v for k, v in asdict(request.curation.ranges).items() if v not in (0, float("inf"))}
    curation = {k: v for k, v in asdict(request.curation).items() if v is not None and k != "ranges"}
    chosen = {"chosen": request.chosen, "rejected": request.rejected, "noise": request.noise}
    search = None if request.search is None else asdict(request.search)
    return {**chosen, "curation": curation, "ranges": ranges, "sampling": asdict(request.settings), "search": search,
            "ches_below": request.ches_below}  # fmt: skip


def _there(out: Path, identity: str) -> dict[str, Any] | None:
    """Return the account of a file that this request has made; refuse to replace what no command of ours made."""
    if not out.exists():
        return None
    try:
        account: dict[str, Any] = json.loads(about(out).read_text(encoding="utf-8"))
        ours = account["sha256"] == file_digest(out)
    except (OSError, ValueError, KeyError):
        ours = False
    if not ours:
        raise ConfigError(f"{out}: already there, and not as this command left it; name another --out or move it away.")
    return account if account["id"] == identity else None


def _candidates(
    request: Request, answerers: Mapping[str, Answerer], scorer: Scorer, examples: Sequence[Example], say: Say
) -> list[list[Candidate]]:
    """Return the scored candidates of each prompt, from every origin that a side needs."""
    found: list[list[Candidate]] = [[] for _ in examples]
    for origin in sorted({request.chosen, request.rejected}):
        if origin == "data":
            own = [[Candidate("data", text) for text in example.responses.values()] for example in examples]
        elif request.search is not None:
            own = searched(answerers[origin], examples, scorer, request.search, say)
        else:
            own = sampled(answerers[origin], examples, origin, say)
        for all_of_prompt, more in zip(found, own, strict=True):
            all_of_prompt += more
    return scored(found, examples, scorer, say)


def _curated(
    request: Request, answerer: Answerer, examples: Sequence[Example], candidates: Sequence[Sequence[Candidate]]
) -> tuple[list[Made], dict[str, Any]]:
    without, left_out = Counter({code: 0 for code in REASONS}), Counter({code: 0 for code in LEFT_OUT})
    made, ties = list[Made](), 0
    answers = _answers(examples, candidates, answerer)
    for example, pool in zip(examples, answers, strict=True):
        found, swaps = _of_prompt(request, example, pool)
        made += [
            Made(example, Pair(*reversed(pair)) if swap else pair, swap)
            for pair, swap in zip(found.pairs, swaps, strict=True)
        ]
        without.update([found.reason] if found.reason else [])
        left_out.update(found.left_out)
        ties += found.ties
    lost = sum("paraphrase" in each.example.meta and not _still_chosen(each) for each in made)
    counts = {"prompts_without_pair": without, "pairs_left_out": left_out, "ties": ties, "paraphrases_left_out": lost}
    return made, {key: dict(value) if isinstance(value, Counter) else value for key, value in counts.items()}


def _of_prompt(request: Request, example: Example, pool: Sequence[Answer]) -> tuple[Curated, list[bool]]:
    key = digest_of([canonical_json(example.prompt)])

    def draw(name: str, n: int) -> NDArray[np.float64]:
        return uniform(n, request.settings.seed, "pairs", key, name)

    chosen, rejected = ([a for a in pool if a.origin == origin] for origin in (request.chosen, request.rejected))
    found = curate(chosen, rejected, request.curation, draw)
    return found, [bool(u < request.noise) for u in draw("noise", len(found.pairs))]


def _answers(
    examples: Sequence[Example], candidates: Sequence[Sequence[Candidate]], answerer: Answerer
) -> list[list[Answer]]:
    """Return the different whole answers of each prompt with their tokens; white space around them makes no difference.

    What comes from two origins is an answer of both.
    """
    pools: list[dict[tuple[str, str], Candidate]] = []
    for all_of_prompt in candidates:
        texts: dict[str, str] = {}
        pool: dict[tuple[str, str], Candidate] = {}
        for each in all_of_prompt:
            if each.scores is not None and not each.truncated and each.text.strip():
                text = texts.setdefault(each.text.strip(), each.text)
                pool.setdefault((each.origin, text), each)
        # One text has one score: that of its first spelling.
        first = {text: next(c for (_, t), c in pool.items() if t == text) for text in texts.values()}
        pools.append({key: each._replace(text=key[1], scores=first[key[1]].scores) for key, each in pool.items()})
    asked = [
        replace(e, chosen=None, rejected=None, others={str(i): c.text for i, c in enumerate(pool.values())})
        for e, pool in zip(examples, pools, strict=True)
    ]
    rows = tokenize(asked, answerer.tokenizer, answerer.limits).rows
    return [
        [
            Answer(c.text, (c.scores or {})["reward"], c.origin, tuple(row.responses[str(i)].tolist()), c.path)
            for i, c in enumerate(pool.values())
        ]
        for pool, row in zip(pools, rows, strict=True)
    ]


def _without_similar(request: Request, answerer: Answerer, made: list[Made]) -> tuple[list[Made], int]:
    """Leave out the pairs with the highest CHES scores, where that is asked for."""
    if request.ches_below is None or not made:
        return made, 0
    prompts = answerer.prompts([each.example for each in made])
    rows = [
        TokenRow(i, prompt, {side: np.array(getattr(each.pair, side).tokens) for side in ("chosen", "rejected")})
        for i, (each, prompt) in enumerate(zip(made, prompts, strict=True))
    ]
    scores = ches_scores(answerer, rows)
    n = round(request.ches_below * len(made))
    kept = sorted(np.argsort(scores, kind="stable")[:n].tolist())
    return [replace(made[i], ches=scores[i]) for i in kept], len(made) - n


def _still_chosen(each: Made) -> bool:
    return each.pair.chosen.text == each.example.chosen


def _row(request: Request, each: Made) -> dict[str, Any]:
    """Return a line of the file; `meta.paraphrase` rewords the data's chosen response and goes with it."""
    example, pair = each.example, each.pair
    meta = {key: value for key, value in example.meta.items() if key != "paraphrase" or _still_chosen(each)}
    about_pair: dict[str, Any] = {
        "chosen_from": pair.chosen.origin,
        "rejected_from": pair.rejected.origin,
        "curation": request.curation.name,
        "swapped": each.swapped,
        "shared_prefix": pair.shared_prefix,
    }
    if each.ches is not None:
        about_pair["ches"] = each.ches
    prompt = example.prompt
    return {
        "prompt": prompt if isinstance(prompt, str) else [{"role": m.role, "content": m.content} for m in prompt],
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "score_chosen": pair.chosen.score,
        "score_rejected": pair.rejected.score,
        "family": example.family,
        "meta": {**meta, "pair": about_pair},
    }
