"""Reward models: sequence classifiers with one output, from a folder or the Hub."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.errors import ConfigError, DataError
from preflab.data.examples import Example, Prompt
from preflab.data.render import Template
from preflab.data.tokens import TokenSettings, tokenize
from preflab.models.load import check_own_code, context_length, load_tokenizer, resolve, weights_digest

_CLASSIFIER = "ForSequenceClassification"
_LONGEST = 1 << 20
"""Tokens of a row where a model sets no limit."""


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A loaded reward model.

    Args:
        model: a sequence classifier with one output.
        tokenizer: its own.
        max_tokens: of prompt and response together; longer responses are cut.
        template: how both become text, with the model's own chat template.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    template: Template = "auto"

    @torch.no_grad()
    def scores(self, asked: Sequence[tuple[Prompt, str]], *, batch_size: int) -> list[float]:
        """Return the score of each response behind its prompt.

        Args:
            asked: prompt and response.
            batch_size: rows of a forward.

        Raises:
            DataError: a prompt that leaves no room in the context, or a score that is not finite.
        """
        settings = TokenSettings(self.template, self.max_tokens, self.max_tokens)
        examples = [Example(i + 1, prompt, response, None) for i, (prompt, response) in enumerate(asked)]
        rows = [
            np.concatenate([r.prompt, r.responses["chosen"]]) for r in tokenize(examples, self.tokenizer, settings).rows
        ]
        scores = np.zeros(len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            scores[batch] = self._forward([rows[i] for i in batch])
        if not np.isfinite(scores).all():
            raise DataError("the reward model gives scores that are not finite; its weights are broken.")
        return [float(score) for score in scores]

    def _forward(self, rows: Sequence[Any]) -> Any:
        device = next(self.model.parameters()).device
        # transformers takes the last token that is not padding: with a padding token that ends responses too (often
        # eos), it would read the score one token early. So padding is a token that this batch does not hold.
        pad = next(i for i in range(self.model.config.vocab_size) if not any(i in row for row in rows))
        self.model.config.pad_token_id = pad
        ids = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        out = self.model(input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device))
        return out.logits[:, 0].float().cpu().numpy()


def load_reward_model(
    folder: Path, *, device: str, template: Template = "auto", allow_remote_code: bool = False
) -> RewardModel:
    """Load a reward model in float32: safetensors only, and no code of its own unless that was allowed.

    Raises:
        ConfigError: not a sequence classifier with one output, or without safetensors weights.
    """
    check_reward_model(folder, allow_remote_code=allow_remote_code)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=allow_remote_code
    )
    model.config.use_cache = False
    model.to(torch.device(device))
    tokenizer = load_tokenizer(folder, allow_remote_code=allow_remote_code)
    context = context_length(folder, allow_remote_code=allow_remote_code)
    return RewardModel(model.eval(), tokenizer, int(min(context, _LONGEST)), template)


def is_reward_model(name: str) -> bool:
    """Return whether a folder, or a Hub id, holds a sequence classifier."""
    if "/" not in name and not Path(name).expanduser().is_dir():
        return False
    path = resolve(name) / "config.json" if not (Path(name).expanduser() / "adapter_config.json").exists() else None
    return path is not None and any(kind.endswith(_CLASSIFIER) for kind in _architectures(path))


def _architectures(config: Path) -> list[str]:
    found = json.loads(config.read_text(encoding="utf-8")).get("architectures")
    return [str(name) for name in found or ["unknown"]]


def check_reward_model(folder: Path, *, allow_remote_code: bool = False) -> str:
    """Return the digest of a reward model's weights.

    Raises:
        ConfigError: as `load_reward_model`; a language model's folder would get a head of random numbers.
    """
    check_own_code(folder, allowed=allow_remote_code)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = _architectures(folder / "config.json")
    if not any(name.endswith(_CLASSIFIER) for name in kinds):
        raise ConfigError(f"{folder}: a reward model is a sequence classifier with one output; this is {kinds[0]}.")
    labels = config.get("num_labels", len(config.get("id2label") or {}) or 2)
    if labels != 1:
        raise ConfigError(f"{folder}: a reward model has one output; this classifier has {labels}.")
    return weights_digest(folder)
