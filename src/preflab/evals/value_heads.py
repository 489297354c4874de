"""A reward model: weights with a value head, which says at the end of a response how good it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.models.policies import VALUE_HEAD, head_values
from preflab.scoring.flat import fill, flatten
from preflab.scoring.logps import hidden_states


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Scores responses, standardised by the responses of the validation pairs.

    Args:
        model: the weights, frozen.
        head: weights and bias of the value head, `[hidden + 1]`.
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
    """Return the value head of a model folder, `[hidden + 1]`."""
    return load_file(folder / VALUE_HEAD, device=str(device))["value_head"]
