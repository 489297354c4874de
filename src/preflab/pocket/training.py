"""The pocket models' own small training loop: packed rows, AdamW, a cosine schedule, one thread, plain torch."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from preflab.pocket.corpus import Conversation
from preflab.pocket.tokenizer import END, PAD

IGNORED: Final = -100
Report = Callable[[str], None]


class Tokens(NamedTuple):
    """One text as token ids, and where its loss begins: 0, or the first token of the response."""

    ids: list[int]
    loss_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long and how fast to train.

    Args:
        n_steps: optimizer steps.
        learning_rate: peak of the schedule; linear warm-up over 3 % of the steps, cosine to a twentieth.
        rows: rows per step.
        width: tokens per row.
        weight_decay: of AdamW, on matrices only.
    """

    n_steps: int
    learning_rate: float
    rows: int = 16
    width: int = 128
    weight_decay: float = 0.05


def new_model(tokenizer: Any, seed: int) -> LlamaForCausalLM:
    """Return a fresh model of about a million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def document_tokens(texts: Sequence[str], tokenizer: Any) -> list[Tokens]:
    """Return documents as tokens, each closed by the end token, all of it to be learnt."""
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [Tokens([*ids, tokenizer.eos_token_id], 0) for ids in encoded]


def conversation_tokens(conversations: Sequence[Conversation], tokenizer: Any, *, all_tokens: bool) -> list[Tokens]:
    """Return conversations as tokens: the rendered prompt, then the response, then one end token.

    Args:
        conversations: the last message is the response.
        tokenizer: the pocket tokenizer.
        all_tokens: learn the prompt too (pre-training), or the response only.
    """
    prompts = [tokenizer.apply_chat_template(c[:-1], tokenize=False, add_generation_prompt=True) for c in conversations]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    response_ids = tokenizer([c[-1]["content"] for c in conversations], add_special_tokens=False)["input_ids"]
    pairs = zip(prompt_ids, response_ids, strict=True)
    return [Tokens([*p, *r, tokenizer.eos_token_id], 0 if all_tokens else len(p)) for p, r in pairs]


def packed(stream: Iterable[Tokens], width: int, pad_id: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (ids, labels) rows of exactly `width` tokens: whole texts side by side, the rest padding."""
    ids: list[int] = []
    labels: list[int] = []
    for text in stream:
        if len(ids) + len(text.ids) > width and ids:
            rest = width - len(ids)
            yield ids + [pad_id] * rest, labels + [IGNORED] * rest
            ids, labels = [], []
        kept = text.ids[:width]
        ids = ids + kept
        labels = labels + [IGNORED] * min(text.loss_from, len(kept)) + kept[text.loss_from :]


def _batches(rows: Iterator[tuple[list[int], list[int]]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        group = [next(rows) for _ in range(size)]
        ids, labels = zip(*group, strict=True)
        yield torch.tensor(ids), torch.tensor(labels)


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def _rate(step: int, recipe: Recipe) -> float:
    warm = max(1, round(0.03 * recipe.n_steps))
    progress = max(0.0, (step - warm) / max(1, recipe.n_steps - warm))
    return recipe.learning_rate * min((step + 1) / warm, 0.05 + 0.475 * (1 + math.cos(math.pi * progress)))


def next_token_loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the tokens to be learnt, nats.

    Only their positions reach the LM head, which is where a small model spends most of its time.
    """
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORED
    return F.cross_entropy(model.lm_head(hidden[wanted]), labels[:, 1:][wanted])


def train(model: LlamaForCausalLM, stream: Iterator[Tokens], recipe: Recipe, report: Report) -> None:
    """Train a model in place on an endless stream of texts."""
    model.train()
    optimizer = _optimizer(model, recipe)
    padding = model.config.pad_token_id
    assert padding is not None
    batches = _batches(packed(stream, recipe.width, padding), recipe.rows)
    smooth = 0.0
    for step in range(recipe.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, recipe)
        loss = next_token_loss(model, *next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 200 == 0 or step == recipe.n_steps - 1:
            report(f"  step {step}/{recipe.n_steps}: loss {smooth:.3f} nats/token")
    model.eval()


def mix(rng: random.Random, streams: Sequence[Iterator[Tokens]], shares: Sequence[float]) -> Iterator[Tokens]:
    """Yield texts of several streams so that each has its share of the tokens."""
    spent = [1e-9] * len(streams)
    while True:
        behind = [tokens / share for tokens, share in zip(spent, shares, strict=True)]
        i = min(range(len(streams)), key=lambda k: (behind[k], rng.random()))
        text = next(streams[i])
        spent[i] += len(text.ids)
        yield text
