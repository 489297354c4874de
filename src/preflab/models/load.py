"""Models and tokenizers from a folder or the Hub: safetensors only, no pickle, remote code only where allowed."""

import functools
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from preflab.core.errors import ConfigError, RunError
from preflab.core.ids import digest_of, file_digest

if TYPE_CHECKING:  # models take seconds to import, and a process that plans needs none
    from transformers import PreTrainedModel

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""One of these is in every folder with a tokenizer."""


def quiet() -> None:
    """Keep transformers' progress bars and hints off the terminal; for programs that show progress of their own."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # The bars' own lock is a semaphore between processes, which outlives a worker that ends at once.
    tqdm.set_lock(threading.RLock())


def resolve(name: str, revision: str | None = None, *, allow_remote_code: bool = False) -> Path:
    """Return the local folder of a model: the folder itself, or the downloaded snapshot of a Hub id.

    Args:
        name: folder or Hub id.
        revision: Hub revision.
        allow_remote_code: download the model's Python files too.

    Raises:
        ConfigError: neither a folder with a `config.json` nor a reachable Hub id.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ConfigError(f"{folder}: a model folder needs config.json; found none.")
        return folder.resolve()  # an adapter trained here records this path as its base
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(f"{name}: no such folder, and not a Hub id of the form owner/name.")
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", *(["*.py"] if allow_remote_code else [])]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the Hub client raises many kinds; the user needs one sentence
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{name}: no such folder, and the Hub did not give it ({reason}).") from error


def weights_digest(folder: Path) -> str:
    """Return one SHA-256 over the configuration, every safetensors file and any Python file of a model folder.

    Raises:
        ConfigError: the folder has no safetensors weights (pickled weights are never loaded).
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"{folder}: no *.safetensors weights. Pickled weights are not loaded; convert them once with "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)."
        )
    files += sorted(folder.glob("*.py"))
    parts = [_architecture(folder), *(_cached_digest(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)]
    return digest_of(parts)


def load_model(folder: Path, *, dtype: str, device: str, allow_remote_code: bool = False) -> "PreTrainedModel":
    """Load a decoder for training or scoring, in evaluation mode: dropout is off for every method alike.

    Raises:
        RunError: mixture-of-experts, whose auxiliary loss would count a shared prompt once.
    """
    from transformers import AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=allow_remote_code)
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if (getattr(config, key, 0) or 0) > 1:
            raise RunError(f"{folder}: mixture-of-experts models ({key}={getattr(config, key)}) are not supported yet.")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=allow_remote_code
    )
    # A tied or cached KV state is of no use in training, and its warning would drown the progress.
    model.config.use_cache = False
    model.to(torch.device(device))  # type: ignore[arg-type]
    return model.eval()


def load_tokenizer(folder: Path, *, allow_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer and check that it has an end-of-sequence token.

    Raises:
        ConfigError: there is none, or it names no end-of-sequence token.
    """
    check_own_code(folder, allowed=allow_remote_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=allow_remote_code)
    except (OSError, ValueError) as error:
        if any((folder / name).exists() for name in TOKENIZER_FILES):
            raise
        raise ConfigError(
            f"{folder}: no tokenizer here ({', '.join(TOKENIZER_FILES)}); copy the files of the model that it came "
            "from beside the weights."
        ) from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{folder}: the tokenizer has no eos_token, so responses could never end.")
    return tokenizer


def check_own_code(folder: Path, *, allowed: bool) -> None:
    """Refuse a model that brings Python code of its own, unless that was allowed.

    Raises:
        ConfigError: with the way to allow it.
    """
    path = folder / "config.json"
    if not allowed and path.exists() and "auto_map" in json.loads(path.read_text(encoding="utf-8")):
        raise ConfigError(
            f"{folder}: this model runs Python code of its own; if you trust it, allow it by name: "
            "--allow-remote-code NAME, or models.allow_remote_code in a study."
        )


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of what decides token ids and texts: the whole tokenizer and its chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return digest_of([rules, str(tokenizer.special_tokens_map), str(tokenizer.chat_template or "")])


def trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the named parameters that receive gradients, in a fixed order; tied weights appear once."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def end_token_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids that end a response: the tokenizer's, and those of the model's generation config."""
    path = folder / "generation_config.json"
    configured = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    extra = [] if configured is None else configured if isinstance(configured, list) else [configured]
    return tuple(sorted({int(tokenizer.eos_token_id), *map(int, extra)}))


def context_length(folder: Path, *, allow_remote_code: bool = False) -> float:
    """Return the positions that a model can see; infinite where its configuration sets no limit."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=allow_remote_code)
    limit = getattr(config, "max_position_embeddings", None)
    return math.inf if limit is None else limit


def _architecture(folder: Path) -> str:
    """Return the configuration without the entries that say nothing about the numbers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"):
        config.pop(key, None)
    return json.dumps(config, sort_keys=True)


@functools.lru_cache(maxsize=256)
def _cached_digest(path: str, size: int, mtime_ns: int) -> str:
    """Hash a file once per process while its size and time stand."""
    return file_digest(Path(path))
