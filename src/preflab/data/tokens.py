"""Tokens, made once for every method: the prompt, and each response exactly as it follows the prompt.

* A prompt is tokenised once and shared by its responses. A response is tokenised on its own, so no token ever spans
  the border, and words that two responses share stay in the responses.
* A response ends in exactly one end-of-sequence token: whatever the template puts after the first one (a newline in
  many) is cut, and a template without one gets it. A response that is cut at the limit has none.
* Text prompts begin with the tokenizer's start token if the tokenizer adds one; chat templates write their own.
* White space is content: a response keeps its leading space, unless the chat template strips it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preflab.core.errors import ConfigError, DataError, nearest
from preflab.data.examples import Example, Prompt, TokenRow
from preflab.data.mismatched import add_mismatched
from preflab.data.problems import exclude_line
from preflab.data.render import (
    TEMPLATES,
    Template,
    render_prompt,
    render_prompts,
    render_response,
    resolve,
    template_digest,
)

__all__ = ["TokenSettings", "Tokenized", "add_mismatched", "prompt_ids", "prompt_lengths", "response_text", "tokenize"]

_CHUNK: Final = 4096
"""Texts per call of the tokenizer: large enough to keep its threads busy, small enough to keep memory flat."""

_ANCHORS: Final = ("\n", "x", "=")

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How rows become tokens.

    Args:
        template: see `render`.
        max_tokens: tokens of prompt and response together; longer responses are cut and counted.
        max_prompt_tokens: prompts with as many tokens or more are a row problem, never cut.
    """

    template: Template
    max_tokens: int
    max_prompt_tokens: int

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ConfigError(
                f"data.template: unknown {self.template!r}. {nearest(str(self.template), list(TEMPLATES))}"
            )
        if not 1 < self.max_prompt_tokens <= self.max_tokens:
            raise ConfigError(
                "data.max_prompt_tokens: must be at least 2 and at most data.max_tokens "
                f"({self.max_tokens}); got {self.max_prompt_tokens}."
            )


class Tokenized(NamedTuple):
    """The rows of a data set as tokens, and what happened on the way."""

    rows: tuple[TokenRow, ...]
    truncated: Mapping[str, int]
    """Role to the number of responses that were cut at the limit."""
    bare: int
    """Responses whose chat template is not stable under its prompt, so that they are the bare text and one EOS."""
    digest: str
    """SHA-256 of rows, roles and ids, in order."""
    template_digest: str
    """SHA-256 of the template and the special tokens."""


class _Text(NamedTuple):
    """One response to tokenise."""

    example: int
    role: str
    text: str
    templated: bool


def tokenize(examples: Sequence[Example], tokenizer: Any, settings: TokenSettings) -> Tokenized:
    """Tokenise rows.

    Args:
        examples: checked rows.
        tokenizer: a Hugging Face tokenizer.
        settings: template and limits.

    Raises:
        DataError: a prompt as long as the limit, or a conversation that the chat template refuses.
        ConfigError: the tokenizer has no end-of-sequence token, or no chat template although one is asked for.
    """
    eos = _eos(tokenizer)
    rendered, refused = render_prompts((example.prompt for example in examples), tokenizer, settings.template)
    prompts = _encode_prompts(rendered, tokenizer, settings)
    _refuse(examples, refused, prompts, settings)
    texts = [
        _Text(i, *side)
        for i, example in enumerate(examples)
        for side in _render(example, rendered, tokenizer, settings)
    ]
    responses: list[dict[str, Ids]] = [{} for _ in examples]
    truncated: Counter[str] = Counter()
    befores = [rendered[examples[text.example].prompt] for text in texts]
    encoded = _encode_continuations([text.text for text in texts], befores, tokenizer)
    for text, ids in zip(texts, encoded, strict=True):
        limit = max(settings.max_tokens - len(prompts[examples[text.example].prompt]), 1)
        responses[text.example][text.role], cut = _finish(ids, eos, limit)
        truncated[text.role] += cut
    rows = tuple(
        TokenRow(example.row, prompts[example.prompt], roles, example.scores)
        for example, roles in zip(examples, responses, strict=True)
    )
    bare = sum(not text.templated for text in texts)
    return Tokenized(rows, dict(truncated), bare, _digest(rows), template_digest(tokenizer, settings.template))


def prompt_ids(prompt: Prompt, tokenizer: Any, settings: TokenSettings) -> Ids:
    """Return the tokens of one prompt, int64 `[prompt_tokens]`: the same as in training, for generation."""
    text = render_prompt(prompt, tokenizer, settings.template)
    return _encode_prompts({prompt: text}, tokenizer, settings)[prompt]


def prompt_lengths(rendered: Mapping[Prompt, str], tokenizer: Any, settings: TokenSettings) -> dict[Prompt, int]:
    """Return the number of tokens of every rendered prompt."""
    return {prompt: len(ids) for prompt, ids in _encode_prompts(rendered, tokenizer, settings).items()}


def response_text(ids: Sequence[int] | Ids, tokenizer: Any) -> str:
    """Return the text of a response up to its first end-of-sequence token, without control tokens, not stripped."""
    kept = [int(i) for i in ids]
    if tokenizer.eos_token_id in kept:
        kept = kept[: kept.index(tokenizer.eos_token_id)]
    return str(tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _eos(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no end-of-sequence token; set eos_token in its tokenizer_config.json")
    return int(tokenizer.eos_token_id)


def _render(
    example: Example, rendered: Mapping[Prompt, str], tokenizer: Any, settings: TokenSettings
) -> Iterator[tuple[str, str, bool]]:
    """Yield role, text and whether the template gave it, for every response of a row."""
    before = rendered[example.prompt]
    for role, response in example.responses.items():
        yield role, *render_response(example.prompt, before, response, tokenizer, settings.template)


def _encode_prompts(rendered: Mapping[Prompt, str], tokenizer: Any, settings: TokenSettings) -> dict[Prompt, Ids]:
    """Tokenise rendered prompts; one that has no token at all becomes the start token, or the end token without one."""
    start = _start_ids(tokenizer)
    lone = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else _eos(tokenizer)
    found = {}
    for prompt, ids in zip(rendered, _encode(list(rendered.values()), tokenizer), strict=True):
        own = [] if resolve(prompt, tokenizer, settings.template) == "chat" else start
        found[prompt] = np.asarray([*own, *ids] or [lone], dtype=np.int64)
    return found


def _start_ids(tokenizer: Any) -> list[int]:
    """Return the tokens that the tokenizer puts before a text of its own accord."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for n in range(len(full) - len(bare) + 1):
        if full[n : n + len(bare)] == bare:
            return list(full[:n])
    return []


def _encode(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
    for first in range(0, len(texts), _CHUNK):
        chunk = list(texts[first : first + _CHUNK])
        yield from tokenizer(
            chunk,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]


def _encode_continuations(texts: Sequence[str], befores: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Tokenise texts as they follow other text.

    Some tokenizers (SentencePiece and its like) put a space before whatever they are given, and some do so behind every
    control token too. Then a text is tokenised behind its own prompt, whose tokens are taken off again: only that says
    whether a space belongs there. Where prompt and text merge, an anchor takes the prompt's place.
    """
    found: list[list[int]] = [[] for _ in texts]
    pending: Sequence[int] = range(len(texts))
    if _adds_space(tokenizer):
        pending = _encode_behind(befores, pending, texts, found, tokenizer)
        for anchor in _ANCHORS:
            pending = _encode_behind([anchor] * len(texts), pending, texts, found, tokenizer)
    for i, ids in zip(pending, _encode([texts[i] for i in pending], tokenizer), strict=True):
        found[i] = ids
    return found


def _encode_behind(
    befores: Sequence[str], pending: Sequence[int], texts: Sequence[str], found: list[list[int]], tokenizer: Any
) -> list[int]:
    """Tokenise the pending texts behind what comes before them; return those that merge with it."""
    distinct = list(dict.fromkeys(befores[i] for i in pending))
    alone = dict(zip(distinct, _encode(distinct, tokenizer), strict=True))
    behind = _encode([befores[i] + texts[i] for i in pending], tokenizer)
    merged = []
    for i, whole in zip(pending, behind, strict=True):
        before = alone[befores[i]]
        if whole[: len(before)] == before:
            found[i] = whole[len(before) :]
        else:
            merged.append(i)
    return merged


def _adds_space(tokenizer: Any) -> bool:
    """Tell whether a text has other tokens at the start than behind a line break."""
    alone, anchor, behind = _encode(["x", "\n", "\nx"], tokenizer)
    return behind[len(anchor) :] != alone


def _finish(ids: Sequence[int], eos: int, limit: int) -> tuple[Ids, bool]:
    """Return a response with exactly one end token, or cut at the limit without one, and whether it was cut."""
    ended = [*(ids[: ids.index(eos)] if eos in ids else ids), eos]
    return np.asarray(ended[:limit], dtype=np.int64), len(ended) > limit


def _refuse(
    examples: Sequence[Example],
    refused: Mapping[Prompt, str],
    prompts: Mapping[Prompt, Ids],
    settings: TokenSettings,
) -> None:
    """Stop at rows that `check` reports and the study did not leave out."""
    for example in examples:
        if example.prompt in refused:
            raise DataError(f"row {example.row}: the chat template refuses its prompt: {refused[example.prompt]}")
    long = [example.row for example in examples if len(prompts[example.prompt]) >= settings.max_prompt_tokens]
    if long:
        rows = ", ".join(map(str, long[:8])) + (", ..." if len(long) > 8 else "")
        raise DataError(
            f"{len(long)} row(s) have a prompt of {settings.max_prompt_tokens} tokens or more "
            f"(data.max_prompt_tokens): {rows}. Raise the limit, or write: {exclude_line(['prompt_too_long'])}"
        )


def _digest(rows: Sequence[TokenRow]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        parts = {"prompt": row.prompt, **row.responses}
        for role, ids in parts.items():
            digest.update(f"{row.row} {role} {len(ids)}\n".encode())
            digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())
    return digest.hexdigest()
