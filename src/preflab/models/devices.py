"""Where models run, and what of that changes the last digits of their results."""

from typing import Any

import torch


def default_device() -> str:
    """Return `cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def float32_here() -> dict[str, Any]:
    """Return what changes the last digits of float32 work in this process, for the specs of its artefacts."""
    return {"device": default_device(), "dtype": "float32", "threads": torch.get_num_threads()}
