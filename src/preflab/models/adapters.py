"""Adapters that were saved in PEFT's layout, on their base again."""

import warnings
from pathlib import Path
from typing import cast

from peft import PeftModel
from transformers import PreTrainedModel


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on its base, frozen."""
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 for a property by its old name.
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(model, folder).eval()


def merge(model: PeftModel) -> PreTrainedModel:
    """Fold the adapter into the weights of its base."""
    return cast(PreTrainedModel, model.merge_and_unload())
