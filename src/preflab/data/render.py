"""Prompts and responses as the text that is tokenised.

Templates:

* `auto`: conversations through the tokenizer's chat template, or `plain` where it has none; text prompts as they are.
* `chat`: the tokenizer's chat template for everything; a text prompt becomes one user turn.
* `plain`: `User: ...`, blank line, `Assistant:` and a response that begins with a space, for models without a chat
  template; a text prompt becomes one user turn.
* `none`: text prompts as they are; the contents of a conversation joined by blank lines, without roles.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

from preflab.core.errors import ConfigError, DataError
from preflab.data.examples import Message, Prompt

Template = Literal["auto", "chat", "plain", "none"]
TEMPLATES: Final = ("auto", "chat", "plain", "none")

_DATE: Final = "26 Jul 2024"
"""Some templates (Llama 3.2) write today's date into the prompt; a fixed one keeps tokens equal from day to day."""


_RENDERED: Final = WeakKeyDictionary[Any, dict[tuple[Template, str], dict[Prompt, tuple[str, str | None]]]]()


class Refused(DataError):
    """A conversation that the chat template raises an error on."""


def resolve(prompt: Prompt, tokenizer: Any, template: Template) -> Literal["chat", "plain", "raw", "joined"]:
    """Return how one prompt is rendered.

    Raises:
        ConfigError: `chat` is asked for and the tokenizer has no chat template.
    """
    if template == "chat" and not tokenizer.chat_template:
        raise ConfigError(
            "data.template: 'chat' needs a tokenizer with a chat template; this one has none. Use 'plain'."
        )
    if template in ("chat", "plain"):
        return template
    if isinstance(prompt, str):
        return "raw"
    if template == "none":
        return "joined"
    return "chat" if tokenizer.chat_template else "plain"


def render_prompt(prompt: Prompt, tokenizer: Any, template: Template) -> str:
    """Return the text of a prompt, up to where the response begins.

    Raises:
        Refused: the chat template raises an error.
    """
    how = resolve(prompt, tokenizer, template)
    if isinstance(prompt, str) and how == "raw":
        return prompt
    turns = _turns(prompt)
    if how == "chat":
        return _apply(turns, tokenizer, add_generation_prompt=True)
    if how == "joined":
        return "".join(f"{turn.content}\n\n" for turn in turns)
    return "".join(f"{turn.role.capitalize()}: {turn.content}\n\n" for turn in turns) + "Assistant:"


def render_response(
    prompt: Prompt, rendered: str, response: str, tokenizer: Any, template: Template
) -> tuple[str, bool]:
    """Return the text that follows a rendered prompt, and whether the template gave it.

    The chat template renders the whole conversation; what follows the rendered prompt is the response with whatever
    the template puts after it. A template whose whole conversation does not begin with its prompt (reasoning models
    that open a thinking block in the prompt only) gives no such text; then it is the bare response.

    Raises:
        Refused: the chat template raises an error.
    """
    how = resolve(prompt, tokenizer, template)
    if how == "plain":
        return " " + response, True
    if how != "chat":
        return response, True
    whole = _apply([*_turns(prompt), Message("assistant", response)], tokenizer, add_generation_prompt=False)
    if whole.startswith(rendered):
        return whole[len(rendered) :], True
    return response, False


def render_prompts(
    prompts: Iterable[Prompt], tokenizer: Any, template: Template
) -> tuple[dict[Prompt, str], dict[Prompt, str]]:
    """Return the text of every distinct prompt, and what the chat template says of those that it refuses.

    A prompt counts as refused too when the template accepts it but not the assistant turn after it. Data is checked
    and then tokenised, so the texts are remembered with the tokenizer.
    """
    known = _RENDERED.setdefault(tokenizer, {}).setdefault((template, str(tokenizer.chat_template)), {})
    texts: dict[Prompt, str] = {}
    refused: dict[Prompt, str] = {}
    for prompt in dict.fromkeys(prompts):
        if prompt not in known:
            known[prompt] = _try_to_render(prompt, tokenizer, template)
        text, refusal = known[prompt]
        if refusal is None:
            texts[prompt] = text
        else:
            refused[prompt] = refusal
    return texts, refused


def _try_to_render(prompt: Prompt, tokenizer: Any, template: Template) -> tuple[str, str | None]:
    """Return the text of a prompt, and why the template refuses it or an answer to it."""
    try:
        text = render_prompt(prompt, tokenizer, template)
        if resolve(prompt, tokenizer, template) == "chat":
            render_response(prompt, text, "Yes.", tokenizer, template)
    except Refused as error:
        return "", str(error)
    return text, None


def template_digest(tokenizer: Any, template: Template) -> str:
    """Return a SHA-256 of everything but the rows that decides the rendered text."""
    parts = (template, tokenizer.chat_template or "", sorted(map(str, tokenizer.special_tokens_map.items())), _DATE)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _turns(prompt: Prompt) -> list[Message]:
    return [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)


def _apply(turns: Sequence[Message], tokenizer: Any, *, add_generation_prompt: bool) -> str:
    from jinja2 import TemplateError

    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=_DATE
        )
    # Templates refuse roles or their order with raise_exception, and fail on what their authors did not foresee.
    except (TemplateError, ValueError, TypeError, KeyError, IndexError) as error:
        raise Refused(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    return str(text)
