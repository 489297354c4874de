"""Checkpoints from anywhere: model folders, PEFT adapters on a base, folders of either over time, Hub ids."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from preflab.core.errors import ConfigError
from preflab.core.ids import digest_of, file_digest
from preflab.models.adapters import load_adapter, merge
from preflab.models.load import TOKENIZER_FILES, load_model, load_tokenizer, resolve, weights_digest

_MODEL, _ADAPTER, _ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights that a start point became.

    Args:
        name: for people, such as `checkpoint-200`.
        folder: a model's, or an adapter's.
        start: folder of the start point, on which an adapter sits.
        notes: what a reader of its numbers should know.
    """

    name: str
    folder: Path
    start: Path
    notes: tuple[str, ...] = ()

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds an adapter; some trainers leave the model's configuration beside it."""
        return (self.folder / _ADAPTER).exists()

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer is: beside its weights, or the start point's."""
        return self.folder if any((self.folder / name).exists() for name in TOKENIZER_FILES) else self.start

    def digest(self) -> str:
        """Return the SHA-256 of what decides its numbers."""
        if not self.is_adapter:
            return weights_digest(self.folder)
        files = [self.folder / _ADAPTER, self.folder / _ADAPTER_WEIGHTS]
        return digest_of([weights_digest(self.start), *map(file_digest, files)])

    def load(self, *, dtype: str, device: str, allow_remote_code: bool = False) -> PreTrainedModel:
        """Return the model; an adapter is folded into its base."""
        whole = self.start if self.is_adapter else self.folder
        model = load_model(whole, dtype=dtype, device=device, allow_remote_code=allow_remote_code)
        return merge(load_adapter(model, self.folder)).eval() if self.is_adapter else model


def find_checkpoints(sources: Sequence[str], *, start: Path) -> list[Checkpoint]:
    """Return the checkpoints that folders or Hub ids stand for: each one, or those inside it in order of their steps.

    Args:
        sources: models or adapters, folders with such folders inside, or Hub ids.
        start: folder of the start point.

    Raises:
        ConfigError: nothing there, the same one twice, an adapter for another base, pickled weights, or a vocabulary
            in which a token has another number.
    """
    found = [pair for source in sources for pair in _folders(source)]
    folders = [folder.resolve() for _, folder in found]
    if repeated := [folder for folder in folders if folders.count(folder) > 1]:
        raise ConfigError(f"{repeated[0]}: named twice; name each checkpoint once.")
    names = [name for name, _ in found]
    return [_checked(name if names.count(name) == 1 else str(folder), folder, start) for name, folder in found]


def lone_checkpoint(source: str, *, allow_remote_code: bool = False) -> Checkpoint:
    """Return the model that a folder or Hub id holds; of an adapter the base that it records.

    Args:
        source: a folder or Hub id.
        allow_remote_code: whether the model's own Python files are downloaded too.

    Raises:
        ConfigError: neither a model nor an adapter, pickled weights, or an adapter whose base is not to be had.
    """
    folder = Path(source).expanduser()
    if not (folder / _ADAPTER).exists():
        found = resolve(source, allow_remote_code=allow_remote_code)
        return Checkpoint(source, found, found)
    recorded = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not recorded:
        raise ConfigError(
            f"{source}: this adapter does not say which model it belongs to; fold it into its base first."
        )
    return _checked(source, folder.resolve(), resolve(str(recorded)))


def _folders(source: str) -> list[tuple[str, Path]]:
    """Return name and folder of what a source stands for; the final model of a run comes behind its checkpoints."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return [(source, resolve(source))]
    folder = Path(os.path.abspath(folder))  # `.` gets a name, and a link keeps its own
    inside = sorted((p for p in folder.iterdir() if p.is_dir() and _holds_weights(p)), key=_step)
    found = [*inside, *([folder] if _holds_weights(folder) else [])]
    if not found:
        raise ConfigError(f"{source}: no checkpoint here; a model has {_MODEL}, an adapter {_ADAPTER}.")
    # A run of preflab keeps its model in a folder of that name.
    return [(p.parent.name if p.name == "model" else p.name, p) for p in found]


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).exists() for name in (_MODEL, _ADAPTER))


def _step(folder: Path) -> tuple[int, str]:
    """Order `checkpoint-90` before `checkpoint-200`; names without a number come first."""
    numbers = re.findall(r"\d+", folder.name)
    return int(numbers[-1]) if numbers else -1, folder.name


def _checked(name: str, folder: Path, start: Path) -> Checkpoint:
    checkpoint, notes = Checkpoint(name, folder, start), list[str]()
    if checkpoint.is_adapter:
        if not (folder / _ADAPTER_WEIGHTS).exists():
            raise ConfigError(f"{name}: no {_ADAPTER_WEIGHTS}; pickled weights are not loaded, save it as safetensors.")
        notes += _base_notes(checkpoint)
    if any((folder / file).exists() for file in TOKENIZER_FILES):
        notes += _tokenizer_notes(checkpoint)
    return Checkpoint(name, folder, start, tuple(notes))


def _tokenizer_notes(checkpoint: Checkpoint) -> list[str]:
    """Refuse a vocabulary that gives a number to another token; one that only has more tokens is the same text."""
    own, first = load_tokenizer(checkpoint.folder), load_tokenizer(checkpoint.start)
    ours = {number: token for token, number in own.get_vocab().items()}
    for token, number in first.get_vocab().items():
        if ours.get(number, token) != token:
            raise ConfigError(
                f"{checkpoint.name}: its vocabulary differs from the start point's (token {number} is "
                f"{ours[number]!r}, not {token!r}), so their log-probs speak of different tokens; name the start point "
                "that it was trained from."
            )
    if own.chat_template == first.chat_template:
        return []
    return ["It brings another chat template than the start point; prompts were rendered with the start point's."]


def _base_notes(checkpoint: Checkpoint) -> list[str]:
    """Refuse an adapter whose recorded base is known not to be the start point."""
    settings = json.loads((checkpoint.folder / _ADAPTER).read_text(encoding="utf-8"))
    recorded = settings.get("base_model_name_or_path")
    base = Path(str(recorded)).expanduser()
    if recorded and f"models--{str(recorded).replace('/', '--')}" in checkpoint.start.parts:
        return []  # the start point is the Hub cache's snapshot of the base
    if recorded and (base / _MODEL).exists():
        if weights_digest(base) == weights_digest(checkpoint.start):
            return []
        raise ConfigError(
            f"{checkpoint.name}: an adapter for {recorded}, not for {checkpoint.start}; name its base as START."
        )
    said = f"says that it belongs to {recorded}, which is not here" if recorded else "does not say which base it is for"
    return [f"The adapter {said}; whether that is the start point could not be checked."]
