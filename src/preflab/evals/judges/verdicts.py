"""From a reply to a verdict, strictly: what is no verdict is a failure of a named kind, never a loss for one side."""

import re
from dataclasses import dataclass
from typing import Literal

from preflab.evals.judges.completions import Reply, Unanswered

Failure = Literal["refusal", "malformed", "empty", "cut", "no_logprobs", "transport"]
"""The judge refuses; says no verdict or several; says nothing; is cut by the length limit; its server gives no
log-probs; or no reply came at all."""

_REFUSALS = re.compile(
    r"\b(?:i(?:'|’)?m sorry|i am sorry|i apologi[sz]e"
    r"|i (?:can(?:'|’)?t|cannot|can not|won(?:'|’)?t|will not|must decline)"
    r"|i(?:'|’)?m (?:unable|not able)|i am (?:unable|not able)|as an ai)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge decided.

    Args:
        value: a grade from 1 to 10, or how much the answer shown first is preferred, from 0 to 1.
        weight: battles that a comparison counts for.
    """

    value: float
    weight: float = 1.0


def failure_of(reply: Reply | Unanswered) -> Failure:
    """Return the kind of failure of a reply in which no verdict was found."""
    if isinstance(reply, Unanswered):
        return "transport"
    if reply.refusal or reply.finish == "content_filter" or _REFUSALS.search(reply.text):
        return "refusal"
    if reply.finish == "length":
        return "cut"
    return "malformed" if reply.text.strip() else "empty"


def last_line_verdict(reply: Reply | Unanswered, pattern: str) -> str | None:
    """Return the one verdict on the last line of a reply, or None.

    Only the last line counts, because judges quote answers, and answers may claim verdicts. A reply that was cut or
    filtered has no last line.

    Args:
        reply: what the judge replied.
        pattern: regular expression of what stands in the double square brackets.
    """
    if isinstance(reply, Unanswered) or reply.refusal or reply.finish in ("length", "content_filter"):
        return None
    lines = reply.text.strip().splitlines()
    found = re.findall(r"\[\[([^\[\]]*)\]\]", lines[-1]) if lines else []
    return str(found[0]).strip() if len(found) == 1 and re.fullmatch(pattern, found[0].strip()) else None
