"""What ships with the package: two models and the data sets, found by name."""

import gzip
import os
import tempfile
from pathlib import Path
from typing import Final

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError, nearest
from preflab.core.ids import file_digest

_ROOT: Final = Path(__file__).parent / "assets"
MODELS: Final = ("base", "instruct")
DATA: Final = {
    "pairs": "the default preference pairs: half sampled from the start points, half written by the program",
    "pairs_on": "on-policy pairs: best and worst of several responses sampled from base, sft and instruct",
    "pairs_off": "off-policy pairs: best and worst of several responses written by the program",
    "pairs_noisy": "the default pairs with three labels in ten swapped",
    "pairs_long": "pairs in which the longer response is preferred, whatever its gold reward",
    "sft": "demonstrations for the study's supervised fine-tuning",
    "validation": "held-out prompts to select settings on, each with a chosen and a rejected response",
    "test": "held-out prompts of the same kind",
    "ood": "prompts with held-out wordings, number ranges and subjects",
}
"""Names that `data_path` knows, and what they are."""


def model_path(name: str) -> Path:
    """Return the folder of a shipped model, in the usual Hugging Face layout.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"pocket:{name}: no such pocket model. {nearest(name, list(MODELS))}")
    return _ROOT / name


def data_path(name: str) -> Path:
    """Return a shipped data set as a JSONL file with the columns prompt, chosen, rejected, family and meta.

    The package carries it compressed; the first use unpacks it into the cache, under a name made of its content.

    Args:
        name: a key of `DATA`.

    Raises:
        ConfigError: there is no such data set.
    """
    if name not in DATA:
        raise ConfigError(f"pocket:{name}: no such pocket data set. {nearest(name, list(DATA))}")
    packed = _ROOT / "data" / f"{name}.jsonl.gz"
    folder = cache_root() / "pocket" / file_digest(packed)[:16]
    target = folder / f"{name}.jsonl"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Several workers may unpack at once: each writes its own file, and the rename is atomic.
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as handle:
            handle.write(gzip.decompress(packed.read_bytes()))
        os.replace(handle.name, target)
    return target
