"""Chat completions as OpenAI-compatible servers speak them: the request, the reply, and nothing that sends them."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from preflab.evals.judges.budget import Tokens, estimated_prompt_tokens

_SHOWN = 1000
"""Bytes of an error body that are looked at where it is not the usual JSON."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a judge.

    Args:
        protocol: name and version of the prompt, part of what a cached reply is found by.
        messages: role and content of every message.
        max_tokens: longest reply, tokens.
        temperature: of the judge's sampling.
        top_logprobs: most likely first tokens to return with their log-probs; 0 asks for none.
    """

    protocol: str
    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    temperature: float = 0.0
    top_logprobs: int = 0

    def body(self, model: str) -> dict[str, Any]:
        """Return the JSON body of the HTTP request."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": role, "content": content} for role, content in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        if self.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return body

    @property
    def estimate(self) -> Tokens:
        """About the tokens of the prompt, and the most that the reply may have."""
        return Tokens(estimated_prompt_tokens([content for _, content in self.messages]), self.max_tokens)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a judge replied.

    Args:
        text: content of the message, possibly empty.
        finish: the server's reason for the end: `stop`, `length`, `content_filter`, ...
        refusal: the server's own note of a refusal, possibly empty.
        first_token: log-probs of the most likely first tokens, nats; None where the server gave none.
        model: the name under which the server says that it answered.
        tokens: what the server counted; None where it counted nothing.
    """

    text: str
    finish: str
    refusal: str
    first_token: Mapping[str, float] | None
    model: str
    tokens: Tokens | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A call that brought no reply after all repetitions, and why."""

    cause: str


def parse_reply(body: bytes, clean: Callable[[str], str]) -> Reply:
    """Return the reply in the body of a chat completion.

    Args:
        body: JSON.
        clean: applied to every text of the server.

    Raises:
        ValueError: the body is no chat completion in JSON.
    """
    try:
        return _parse(json.loads(body), clean)
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no chat completion") from error


def _parse(document: Any, clean: Callable[[str], str]) -> Reply:
    choice = document["choices"][0]
    message = choice["message"]
    text, refusal = message.get("content") or "", message.get("refusal") or ""
    if not isinstance(text, str) or not isinstance(refusal, str):
        raise TypeError("content must be text")
    return Reply(
        text=clean(text),
        finish=clean(str(choice.get("finish_reason") or "")),
        refusal=clean(refusal),
        first_token=_first_token(choice.get("logprobs"), clean),
        model=clean(str(document.get("model") or "")),
        tokens=_tokens(document.get("usage") or {}),
    )


def _tokens(usage: Mapping[str, Any]) -> Tokens | None:
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int) or min(prompt, completion) < 0:
        return None
    return Tokens(prompt, completion)


def _first_token(logprobs: Any, clean: Callable[[str], str]) -> dict[str, float] | None:
    positions = (logprobs or {}).get("content") or []
    if not positions:
        return None
    found = {clean(str(each["token"])): float(each["logprob"]) for each in positions[0].get("top_logprobs") or []}
    if not all(math.isfinite(logp) for logp in found.values()):
        raise ValueError("log-probs must be finite")
    return found or None


def error_text(body: bytes) -> str:
    """Return the message of an error body: `{"error": {"message": ...}}` in most servers, anything in others."""
    text = body[:_SHOWN].decode(errors="replace")
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
