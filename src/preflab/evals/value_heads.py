"""A reward model: weights with a value head, which says at the end of a response how good it is."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.errors import ConfigError
from preflab.data.examples import TokenRow
from preflab.models.policies import VALUE_HEAD, head_values, make_readable
from preflab.scoring.flat import fill, flatten
from preflab.scoring.logps import hidden_states


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Scores responses, standardised by the responses of the validation pairs.

    Args:
        model: the weights, frozen.
        head: weights of the value head, `[hidden]`.
        end_id: the token behind a response at which it is read.
        mean: mean score of validation responses.
        std: their deviation.
    """

    model: PreTrainedModel
    head: Tensor
    end_id: int
    mean: float
    std: float

    @torch.no_grad()
    def scores(self, rows: Sequence[TokenRow], role: str, *, budget: int) -> NDArray[np.float64]:
        """Return the score of one response of each row, float64 `[row]`, in deviations from the mean.

        Args:
            rows: the rows.
            role: which of their responses.
            budget: flat tokens per forward.
        """
        ended = [read_at_end(row, self.end_id) for row in rows]
        found = np.zeros(len(rows))
        for group in fill(ended, (role,), budget):
            batch = flatten([ended[i] for i in group], (role,), self.head.device)
            values = head_values(self.head, hidden_states(self.model, batch))
            last = values[batch.length.long().cumsum(0) - 1].double().cpu().numpy()
            found[[group[key.row] for key in batch.responses]] = last
        return (found - self.mean) / self.std


def read_at_end(row: TokenRow, end_id: int) -> TokenRow:
    """Return a row with one more token behind each response: what predicts it has seen the whole response."""
    return replace(row, responses={role: np.append(ids, end_id) for role, ids in row.responses.items()})


def load_head(folder: Path, device: str | torch.device) -> Tensor:
    """Return the value head of a model folder: its weights, and its bias where it has one."""
    return load_file(folder / VALUE_HEAD, device=str(device))["value_head"]


def save_classifier(model: PreTrainedModel, head: Tensor, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a reward model as a sequence classifier with one output, which plain transformers loads.

    Its score of prompt and response, read at the response's last token, is the head's own before standardisation.

    Args:
        model: the weights, an adapter folded in; the classifier takes its layers.
        head: weights of the value head, `[hidden]`.
        tokenizer: goes beside it.
        folder: where; files of the same names are replaced.

    Raises:
        ConfigError: transformers has no such classifier for this architecture, or the head has a bias.
    """
    config = copy.deepcopy(model.config)
    # Classifiers read the last token that is not padding. With the end token as padding that would be one too early,
    # so then there is none: transformers refuses batches instead of misreading them.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id != tokenizer.eos_token_id else None
    config.update({"num_labels": 1, "pad_token_id": pad})
    try:
        with torch.device("meta"):  # its own layers are thrown away
            classifier = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ConfigError(
            f"{config.model_type}: transformers has no sequence classifier of this architecture, so its reward model "
            "cannot leave the study."
        ) from error
    score = getattr(classifier, "score", None)
    if not isinstance(score, torch.nn.Linear) or score.weight.shape != (1, len(head)) or score.bias is not None:
        raise ConfigError(
            f"{config.model_type}: its sequence classifier has no place for a head of {len(head)} weights."
        )
    score.weight = torch.nn.Parameter(head[None].to(model.dtype), requires_grad=False)
    setattr(classifier, classifier.base_model_prefix, model.base_model)
    classifier.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    make_readable(folder)
