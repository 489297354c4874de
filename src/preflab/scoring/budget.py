"""How many flat tokens one forward and backward may hold."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_MEMORY_BYTES = 6 * 2**30
_SMALLEST, _LARGEST = 512, 16384


def default_token_budget(config: "PretrainedConfig", *, dtype_bytes: int = 4) -> int:
    """Return a power of two of flat tokens whose activations take about 6 GiB, between 512 and 16,384.

    It depends on the architecture alone, not on the memory that happens to be free: the budget decides summation order,
    so it must be the same when a study continues. A study sets `train.token_budget` for other machines.
    """
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    # Per layer: inputs of the linear layers, norms and residuals (about 16 x hidden) and the MLP's inner tensors.
    per_token = config.num_hidden_layers * (16 * hidden + 4 * inner) * dtype_bytes
    budget = _SMALLEST
    while budget * 2 <= _LARGEST and budget * 2 * per_token <= _MEMORY_BYTES:
        budget *= 2
    return budget
