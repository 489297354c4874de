"""Weights and adapters that both arms start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.jobs import BenchmarkError
from benchmarks.lengths import Row
from preflab.models.load import DTYPES, load_model
from preflab.models.policies import LoraSettings, LoraStack
from preflab.pocket.assets import model_path

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "llama-small-random": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 8192,
        "tie_word_embeddings": True,
    },
    # Llama 2 7B (Touvron et al., 2023, arXiv:2307.09288).
    "llama-7b-random": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
    },
}
"""Models with random weights, made where they are needed."""


def model_folder(name: str, work: Path, *, dtype: str, device: str) -> Path:
    """Return the folder of a model: a shape of `SHAPES`, `pocket:base` and its like, or a folder.

    Raises:
        BenchmarkError: none of these.
    """
    if name.startswith("pocket:"):
        return model_path(name.removeprefix("pocket:"))
    if name not in SHAPES:
        folder = Path(name).expanduser().resolve()
        if not (folder / "config.json").exists():
            raise BenchmarkError(f"--model {name}: no folder with a config.json, and none of {', '.join(SHAPES)}.")
        return folder
    folder = work / name
    if not (folder / "config.json").exists():
        _make_random(SHAPES[name], folder, dtype=dtype, device=device)
    return folder


def _make_random(shape: dict[str, Any], folder: Path, *, dtype: str, device: str) -> None:
    """Write a model with random weights and a tokenizer that knows nothing but its end and its padding."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    model.save_pretrained(folder)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    if device == "cuda":
        del model
        torch.cuda.empty_cache()


def initial_adapter(
    model: Path, folder: Path, *, settings: LoraSettings, dtype: str, device: str, seed: int = 0
) -> Path:
    """Write the LoRA adapter that both arms start from: B is zero, A is drawn from the seed, on the device."""
    LoraStack.fresh(load_model(model, dtype=dtype, device=device), settings, [seed]).save(0, folder)
    if device == "cuda":
        torch.cuda.empty_cache()
    return folder


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs per token, for the least work that a step needs.

    Args:
        body: parameters of the layers, embeddings and head left out.
        head: parameters of the head.
        hidden: heads times their width.
        layers: attention layers.
        lora: whether only an adapter is trained, so that the weights' own gradients are not computed.
    """

    body: int
    head: int
    hidden: int
    layers: int
    lora: bool

    def flops(self, rows: list[Row]) -> float:
        """Return the floating-point operations that one step on these rows needs at least.

        Forward and backward take 4 (LoRA) or 6 operations per weight and token, the prompt counted once, the head at
        response positions only; attention 12 per layer, width and visible pair of positions. The adapter's own
        products, one to three per cent, are left out. No recomputation, no reference.
        """
        per_weight = 4 if self.lora else 6
        total = 0.0
        for row in rows:
            p, c, r = (len(ids) for ids in row)
            pairs = p * p / 2 + p * (c + r) + (c * c + r * r) / 2
            total += per_weight * (self.body * row.useful_tokens + self.head * row.scored_tokens)
            total += 12 * self.layers * self.hidden * pairs
        return total


def cost_of(model: Path, *, lora: bool) -> Cost:
    """Return the cost of a model folder, from its configuration alone."""
    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(config)
    head = shape.get_output_embeddings().weight
    embeddings = {id(p): p.numel() for p in (head, shape.get_input_embeddings().weight)}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Cost(
        body=sum(p.numel() for p in shape.parameters()) - sum(embeddings.values()),
        head=head.numel(),
        hidden=config.num_attention_heads * width,
        layers=config.num_hidden_layers,
        lora=lora,
    )
