"""Checkpoints from anywhere: model folders, PEFT adapters on a base, folders of either over time, Hub ids."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.errors import ConfigError
from preflab.core.ids import digest_of, file_digest
from preflab.models.adapters import load_adapter, merge
from preflab.models.load import load_model, load_tokenizer, resolve, weights_digest

_MODEL, _ADAPTER = "config.json", "adapter_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights that a start point became.

    Args:
        name: for people, such as `checkpoint-200`.
        folder: a model's, or an adapter's.
        start: folder of the start point, on which an adapter sits.
    """

    name: str
    folder: Path
    start: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds an adapter alone."""
        return not (self.folder / _MODEL).exists()

    def digest(self) -> str:
        """Return the SHA-256 of what decides its numbers."""
        if not self.is_adapter:
            return weights_digest(self.folder)
        files = sorted([self.folder / _ADAPTER, *self.folder.glob("*.safetensors")])
        return digest_of([weights_digest(self.start), *map(file_digest, files)])

    def load(self, *, dtype: str, device: str) -> PreTrainedModel:
        """Return the model; an adapter is folded into its base."""
        if not self.is_adapter:
            return load_model(self.folder, dtype=dtype, device=device)
        return merge(load_adapter(load_model(self.start, dtype=dtype, device=device), self.folder)).eval()


def find_checkpoints(sources: Sequence[str], *, start: Path) -> list[Checkpoint]:
    """Return the checkpoints that folders or Hub ids stand for: each one, or those inside it in order of their steps.

    Args:
        sources: models or adapters, folders with such folders inside, or Hub ids.
        start: folder of the start point.

    Raises:
        ConfigError: nothing there, an adapter for another base, or another vocabulary.
    """
    found = [folder for source in sources for folder in _folders(source)]
    # A run of preflab keeps its model in a folder of that name. Folders of the same name are told by their whole paths.
    short = [folder.parent.name if folder.name == "model" else folder.name for folder in found]
    return [
        _checked(Checkpoint(name if short.count(name) == 1 else str(folder), folder, start))
        for name, folder in zip(short, found, strict=True)
    ]


def _folders(source: str) -> list[Path]:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return [resolve(source)]
    if _holds_weights(folder):
        return [folder]
    inside = sorted((p for p in folder.iterdir() if p.is_dir() and _holds_weights(p)), key=_step)
    if not inside:
        raise ConfigError(
            f"{source}: no checkpoint here; a model has {_MODEL}, an adapter {_ADAPTER}, both with *.safetensors files."
        )
    return inside


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).exists() for name in (_MODEL, _ADAPTER))


def _step(folder: Path) -> tuple[int, str]:
    """Order `checkpoint-90` before `checkpoint-200`; names without a number come first."""
    numbers = re.findall(r"\d+", folder.name)
    return int(numbers[-1]) if numbers else -1, folder.name


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.is_adapter:
        _check_base(checkpoint)
    if any((checkpoint.folder / name).exists() for name in _TOKENIZER_FILES):
        own, first = _vocabulary(checkpoint.folder), _vocabulary(checkpoint.start)
        if own != first:
            raise ConfigError(
                f"{checkpoint.name}: its vocabulary differs from the start point's ({len(own):,} and {len(first):,} "
                "tokens), so their log-probs speak of different tokens; name the start point it was trained from."
            )
    return checkpoint


def _vocabulary(folder: Path) -> dict[str, int]:
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder)
    return dict(tokenizer.get_vocab())


def _check_base(checkpoint: Checkpoint) -> None:
    """Refuse an adapter whose recorded base is known not to be the start point."""
    recorded = str(
        json.loads((checkpoint.folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    )
    base = Path(recorded).expanduser()
    if (base / _MODEL).exists():
        if weights_digest(base) == weights_digest(checkpoint.start):
            return
    elif base.name == checkpoint.start.name or _is_snapshot_of(checkpoint.start, recorded):
        return
    raise ConfigError(
        f"{checkpoint.name}: an adapter for {recorded}, not for {checkpoint.start}; name its base as the start point."
    )


def _is_snapshot_of(folder: Path, repository: str) -> bool:
    """Return whether a folder is the Hub cache's snapshot of a repository."""
    return f"models--{repository.replace('/', '--')}" in folder.parts
