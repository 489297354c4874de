"""Tiny random models and rows that several rooms' tests share."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from preflab.data.examples import TokenRow
from preflab.train.settings import TrainSettings

VOCABULARY = 61
_BODY = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    bos_token_id=None,
    eos_token_id=1,
    pad_token_id=0,
)
CONFIGS = {
    "llama": LlamaConfig(**_BODY),
    "qwen2": Qwen2Config(**_BODY),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1
    ),
    # A window shorter than the rows, so that the tests see it.
    "mistral_sliding_window": MistralConfig(**_BODY, sliding_window=5),
    "gemma2_softcap": Gemma2Config(**_BODY, head_dim=8, sliding_window=6, query_pre_attn_scalar=8),
}


def tiny_model(name: str = "llama", *, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.nn.Module:
    """Return a random model whose log-probs differ clearly between tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=dtype).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    if dtype == torch.float64:
        _make_norms_exact(model)
    model.config.use_cache = False
    return model


def _make_norms_exact(model: torch.nn.Module) -> None:
    """Compute RMS norms in float64: transformers takes them in float32 whatever the dtype, which hides small errors."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            offset = 1.0 if type(module).__name__.startswith("Gemma") else 0.0
            epsilon = getattr(module, "variance_epsilon", None) or module.eps

            def forward(x, module=module, offset=offset, epsilon=epsilon):
                return (offset + module.weight) * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)

            module.forward = forward


def random_rows(n: int, *, seed: int = 0, roles: Sequence[str] = ("chosen", "rejected")) -> list[TokenRow]:
    """Return rows with prompts of 2 to 9 and responses of 1 to 8 tokens."""
    generator = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> np.ndarray:
        return generator.integers(2, VOCABULARY, generator.integers(low, high))

    return [TokenRow(i + 1, tokens(2, 10), {role: tokens(1, 9) for role in roles}) for i in range(n)]


def train_settings(**changed) -> TrainSettings:
    """Return settings of a short run; keywords change them."""
    settings = dict(
        epochs=2,
        batch_size=4,
        learning_rate=1e-2,
        schedule="cosine",
        warmup_frac=0.1,
        decay_frac=None,
        weight_decay=0.01,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        token_budget=10_000,
        monitor_points=3,
    )
    return TrainSettings(**{**settings, **changed})


WORDS = [f"word{i}" for i in range(40)]


def write_tiny_world(folder: Path, *, n: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """Write a random Llama with a word-level tokenizer, and preference pairs in its words; return both paths."""
    model_folder, data = folder / "model", folder / "pairs.jsonl"
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<user>", "<bot>", "<unk>", *WORDS])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<bot>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<user> ' if m.role == 'user' else '<bot> ' }}{{ m.content }}"
        "{{ ' <eos>' if m.role == 'assistant' else ' ' }}{% endfor %}{% if add_generation_prompt %}<bot> {% endif %}"
    )
    config = LlamaConfig(**{**_BODY, "vocab_size": len(vocabulary)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(model_folder)
    tokenizer.save_pretrained(model_folder)
    generator = random.Random(seed)
    with data.open("w", encoding="utf-8") as stream:
        for i in range(n):
            prompt = " ".join([WORDS[i % 40], WORDS[(7 * i + i // 40) % 40], *generator.choices(WORDS, k=2)])
            # The better response begins with the first word of the prompt, the worse one with another word.
            better = " ".join([WORDS[i % 40], *generator.choices(WORDS, k=generator.randint(1, 3))])
            worse = " ".join([WORDS[(i + 1) % 40], *generator.choices(WORDS, k=generator.randint(1, 5))])
            row = {"prompt": [{"role": "user", "content": prompt}], "family": f"family{i % 2}"}
            row |= {
                side: [{"role": "assistant", "content": text}]
                for side, text in (("chosen", better), ("rejected", worse))
            }
            stream.write(json.dumps(row) + "\n")
    return model_folder, data
