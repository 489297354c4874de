"""The account of a file of pairs: what was counted on the way, as JSON and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from preflab.data.examples import Example
from preflab.data.pairs import LEFT_OUT, REASONS, Pair
from preflab.studies.answers import Candidate


@dataclass(frozen=True, slots=True)
class Made:
    """A pair with its labels as written: `pair.chosen` is what the file calls chosen."""

    example: Example
    pair: Pair
    swapped: bool
    ches: float | None = None


def describe_answers(origin: str, candidates: Sequence[Sequence[Candidate]]) -> dict[str, Any]:
    """Count the answers of an origin; means are over whole answers, repeated ones as often as they came."""
    pools = [[c for c in all_of_prompt if c.origin == origin] for all_of_prompt in candidates]
    whole = [c for pool in pools for c in pool if not c.truncated]
    scores = [c.scores for c in whole if c.scores is not None]
    names = dict.fromkeys(name for each in scores for name in each)
    distinct = sum(len({c.text.strip() for c in pool if not c.truncated and c.text.strip()}) for pool in pools)
    blank = sum(not c.text.strip() for c in whole)
    n = sum(map(len, pools))
    return {
        "n": n,
        "truncated": n - len(whole),
        "blank": blank,
        "repeated": len(whole) - blank - distinct,
        "mean": {name: float(np.mean([each[name] for each in scores if name in each])) for name in names},
    }


def describe_pairs(made: Sequence[Made]) -> dict[str, Any]:
    """Return means and ranges over the pairs of a file, labels as written."""
    if not made:
        return {"n": 0}
    prefixes = [each.pair.shared_prefix for each in made]
    gaps = [abs(each.pair.gap) for each in made]
    return {
        "n": len(made),
        "prompts": len({each.example.row for each in made}),
        "swapped": sum(each.swapped for each in made),
        "score_chosen": float(np.mean([each.pair.chosen.score for each in made])),
        "score_rejected": float(np.mean([each.pair.rejected.score for each in made])),
        "gap": {"mean": float(np.mean(gaps)), "min": min(gaps), "max": max(gaps)},
        "shared_prefix": {"mean": float(np.mean(prefixes)), "min": min(prefixes), "max": max(prefixes)},
    }


def account_text(account: Mapping[str, Any]) -> str:
    """Return an account for people."""
    prompts, pairs, settings = account["prompts"], account["pairs"], account["settings"]
    lines = [f"{prompts['source']}: {prompts['detected']}"]
    left = ", ".join(f"{prompts[key]} {words}" for key, words in _PROMPT_WORDS.items() if prompts[key])
    lines.append(f"{prompts['used']} prompts used" + (f"; left out: {left}" if left else ""))
    for origin, each in account["answers"].items():
        means = ", ".join(f"{name} {value:.3f}" for name, value in each["mean"].items())
        lines.append(
            f"answers of {origin}: {each['n']}, of them {each['truncated']} cut, {each['blank']} blank, "
            f"{each['repeated']} repeating another; mean {means or 'unknown'}"
        )
    lines.append(
        f"{settings['curation']['name']}, chosen from {settings['chosen']}, rejected from {settings['rejected']}: "
        f"{pairs['n']} pairs ({pairs['swapped']} with swapped labels) of {pairs['prompts']} prompts; "
        f"mean score of chosen {pairs['score_chosen']:.3f}, of rejected {pairs['score_rejected']:.3f}; "
        f"shared prefix {pairs['shared_prefix']['mean']:.1f} tokens on average "
        f"({pairs['shared_prefix']['min']} to {pairs['shared_prefix']['max']})"
    )
    return "\n".join([*lines, *reasons(account)])


_PROMPT_WORDS: Final = {
    "repeated": "repeat an earlier prompt",
    "excluded": "have problems named by --exclude",
    "beyond_rows": "are beyond --rows",
}


def reasons(account: Mapping[str, Any]) -> list[str]:
    """Return a line for everything that was left out, and why."""
    lines = [
        f"{n} prompts without a pair: {code} ({REASONS[code]})"
        for code, n in account["prompts_without_pair"].items()
        if n
    ]
    lines += [f"{n} pairs left out: {code} ({LEFT_OUT[code]})" for code, n in account["pairs_left_out"].items() if n]
    if account["ties"]:
        lines.append(f"{account['ties']} times the best or worst answer was drawn among several of the same score")
    if account["paraphrases_left_out"]:
        lines.append(
            f"{account['paraphrases_left_out']} times meta.paraphrase was dropped: its answer is not chosen any more"
        )
    return lines
