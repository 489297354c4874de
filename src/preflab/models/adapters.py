"""LoRA through PEFT, saved in PEFT's own layout, and the weights a trained cell leaves behind."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from preflab.core.seeds import derive


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adapters (Hu et al., 2021, arXiv:2106.09685).

    Args:
        r: rank.
        alpha: scale; the update is multiplied by alpha / r.
        target_modules: names of linear layers, or `all-linear`.
    """

    r: int
    alpha: float
    target_modules: str | Sequence[str]


def add_lora(model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> PeftModel:
    """Inject trainable adapters; B starts at zero, A is drawn from the cell's seed.

    Dropout is zero: a stochastic policy would make one method's log-probs noisier than the reference's.
    """
    targets = settings.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=0.0,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 for a property by its old name, and tells that it corrected an option.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        torch.manual_seed(derive(seed, "lora"))
        return get_peft_model(model, config).eval()


def save(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Save weights (or the adapter alone) as safetensors that plain transformers or PEFT loads."""
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card template says nothing
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors opens its files for their owner alone


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel | PeftModel:
    """Put a saved adapter on its base, frozen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in add_lora
        return PeftModel.from_pretrained(model, folder).eval()


def merge(model: PeftModel) -> PreTrainedModel:
    """Fold the adapter into the weights of its base."""
    return cast(PreTrainedModel, model.merge_and_unload())


def decoder_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the causal language model itself, with adapters active inside it where there are any."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


@torch.no_grad()
def mix(target: PreTrainedModel, policy: PreTrainedModel | PeftModel, share: float) -> None:
    """Move a model's weights towards the policy's in place: `(1 - share) * target + share * policy`.

    An adapter counts with what it adds to its layer: mixing its two factors would not mix their product.
    """
    if share == 0.0:
        return
    layers = {n: m for n, m in decoder_of(policy).named_modules() if isinstance(m, BaseTunerLayer)}
    theirs = {name.replace(".base_layer.", "."): value for name, value in decoder_of(policy).named_parameters()}
    for name, parameter in target.named_parameters():
        layer = layers.get(name.removesuffix(".weight"))
        added = 0.0 if layer is None else layer.get_delta_weight(layer.active_adapters[0])  # type: ignore[attr-defined]
        parameter.lerp_(theirs[name] + added, share)
