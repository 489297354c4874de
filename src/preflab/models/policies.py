"""What is trained: the whole weights of one cell, or the LoRA adapters of several cells on one frozen base."""

import contextlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from preflab.core.seeds import derive
from preflab.models.load import trainable
from preflab.models.stacked import Part, Rows, StackedLinear

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""PEFT's name of an adapter's weights, and what it puts before the name of a layer."""

VALUE_HEAD = "value_head.safetensors"
"""Where a value head lies in a model folder: one tensor, its weights and, where it has one, its bias behind them."""


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


class Policy(Protocol):
    """The weights that a group of cells trains, numbered from 0."""

    model: PreTrainedModel

    def parameters(self, cell: int) -> dict[str, nn.Parameter]:
        """Return what the optimizer of a cell moves, by name."""
        ...

    def rows(self, tokens: Mapping[int, int]) -> AbstractContextManager[None]:
        """Say inside the block whose tokens a forward holds: cell to tokens, one cell after another.

        An empty mapping stands for the weights that training starts from, where they are still there.
        """
        ...

    def alone(self, cell: int) -> AbstractContextManager[None]:
        """Say that inside the block every token belongs to one cell."""
        ...

    def close(self) -> None:
        """Give the model back as it was, apart from weights that were trained."""
        ...

    def save(self, cell: int, folder: Path) -> None:
        """Save a cell's weights (or the adapter alone) as safetensors that plain transformers or PEFT loads."""
        ...

    def mix_into(self, target: PreTrainedModel, cell: int, share: float) -> None:
        """Move a model's weights towards the cell's in place: `(1 - share) * target + share * policy`."""
        ...


class WholeModel:
    """All weights of a model, for one cell."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.requires_grad_(True)

    def parameters(self, cell: int) -> dict[str, nn.Parameter]:
        """Return the named weights; tied ones appear once."""
        return dict(trainable(self.model))

    def rows(self, tokens: Mapping[int, int]) -> AbstractContextManager[None]:
        """Do nothing: every token belongs to the one cell."""
        return contextlib.nullcontext()

    def alone(self, cell: int) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Do nothing."""

    def save(self, cell: int, folder: Path) -> None:
        """Save the weights."""
        self.model.save_pretrained(str(folder))
        make_readable(folder)

    @torch.no_grad()
    def mix_into(self, target: PreTrainedModel, cell: int, share: float) -> None:
        """Move a model's weights towards this one's."""
        for mine, theirs in zip(target.parameters(), self.model.parameters(), strict=True):
            mine.lerp_(theirs, share)


Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Name of a layer to the A, `[r, in]`, and B, `[out, r]`, of an adapter."""


class LoraStack:
    """Adapters of several cells on one frozen base: a forward holds the tokens of all of them.

    PEFT decides which layers are targets, how adapters start, and the layout of what is saved. The adapters of a cell
    lie in one vector, so that its optimizer and its gradient norm are single operations.

    Args:
        model: the base; its target layers are replaced until `close`.
        adapters: the adapter of each cell, all of one shape.
        scale: alpha / r.
        config: how PEFT describes them; needed to save.
    """

    def __init__(
        self, model: PreTrainedModel, adapters: Sequence[Factors], *, scale: float, config: LoraConfig | None = None
    ) -> None:
        self.model, self._config, self._rows = model.requires_grad_(False).eval(), config, Rows()
        shapes = {name: [factor.shape for factor in factors] for name, factors in adapters[0].items()}
        size = sum(math.prod(shape) for pair in shapes.values() for shape in pair)
        example = next(iter(adapters[0].values()))[0]
        values = torch.zeros(len(adapters), size, dtype=example.dtype, device=example.device)
        gradients = torch.zeros_like(values)
        self._layers: dict[str, StackedLinear] = {}
        offset = 0

        def leaf(shape: torch.Size) -> Tensor:
            nonlocal offset
            part = slice(offset, offset + math.prod(shape))
            offset = part.stop
            view = values[:, part].unflatten(1, shape).detach().requires_grad_()
            view.grad = gradients[:, part].unflatten(1, shape)
            return view

        for name in shapes:
            a, b = (leaf(shape) for shape in shapes[name])
            with torch.no_grad():
                for cell, factors in enumerate(adapters):
                    a[cell], b[cell] = factors[name]
            self._layers[name] = StackedLinear(model.get_submodule(name), a, b, scale, self._rows)
        for name, layer in self._layers.items():
            _replace(model, name, layer)
        self._vectors = [nn.Parameter(vector) for vector in values]
        for vector, gradient in zip(self._vectors, gradients, strict=True):
            vector.grad = gradient

    @classmethod
    def fresh(cls, model: PreTrainedModel, settings: LoraSettings, seeds: Sequence[int]) -> "LoraStack":
        """Return untrained adapters: A is drawn from the seed of each cell, B is zero."""
        config, layers = _targets(model, settings)
        initial = {seed: _initial(layers, seed) for seed in dict.fromkeys(seeds)}
        for name, layer in layers.items():
            _replace(model, name, layer.get_base_layer())
        del model.peft_config  # PEFT's note that it has been here
        return cls(model, [initial[seed] for seed in seeds], scale=settings.alpha / settings.r, config=config)

    @classmethod
    def saved(cls, model: PreTrainedModel, folder: Path) -> "LoraStack":
        """Return the adapter that `save` left in a folder."""
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        device = next(model.parameters()).device
        tensors = load_file(folder / _WEIGHTS, device=str(device))
        names = [key.removesuffix(".lora_A.weight").removeprefix(_PREFIX) for key in tensors if "lora_A" in key]
        factors = {
            name: (tensors[f"{_PREFIX}{name}.lora_A.weight"], tensors[f"{_PREFIX}{name}.lora_B.weight"])
            for name in names
        }
        return cls(model, [factors], scale=config["lora_alpha"] / config["r"])

    def close(self) -> None:
        """Give the model its own layers back."""
        for name, layer in self._layers.items():
            _replace(self.model, name, layer.base_layer)

    def parameters(self, cell: int) -> dict[str, nn.Parameter]:
        """Return the one vector that holds a cell's adapters; its gradient is always there and adds up."""
        return {"adapter": self._vectors[cell]}

    @contextlib.contextmanager
    def rows(self, tokens: Mapping[int, int]) -> Iterator[None]:
        """Say whose tokens a forward holds; none: the base alone."""
        before = self._rows.parts
        self._rows.hold(tokens)
        try:
            yield
        finally:
            self._rows.parts = before

    @contextlib.contextmanager
    def alone(self, cell: int) -> Iterator[None]:
        """Say that every token belongs to one cell."""
        before, self._rows.parts = self._rows.parts, (Part(slice(cell, cell + 1), slice(None)),)
        try:
            yield
        finally:
            self._rows.parts = before

    def save(self, cell: int, folder: Path) -> None:
        """Save the adapter in PEFT's layout."""
        assert self._config is not None
        folder.mkdir(parents=True, exist_ok=True)
        self._config.save_pretrained(str(folder))
        tensors = {}
        for name, layer in self._layers.items():
            for part, stack in (("lora_A", layer.a), ("lora_B", layer.b)):
                tensors[f"{_PREFIX}{name}.{part}.weight"] = stack[cell].detach().contiguous()
        save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
        make_readable(folder)

    @torch.no_grad()
    def mix_into(self, target: PreTrainedModel, cell: int, share: float) -> None:
        """Move a model's weights towards the cell's, base and adapter together.

        The adapter counts with what it adds to its layer: mixing its two factors would not mix their product.
        """
        theirs = {name.replace(".base_layer.", "."): value for name, value in self.model.named_parameters()}
        for name, parameter in target.named_parameters():
            layer = self._layers.get(name.removesuffix(".weight"))
            parameter.lerp_(theirs[name] + (0.0 if layer is None else layer.delta(cell)), share)


class WithValues:
    """A policy whose cells have a value head each: a linear layer on the last hidden states, zero at first.

    Args:
        policy: the weights below.
        cells: which cells have one.
        bias: whether heads have a bias. The order of responses does not depend on it, and classifiers have none.
    """

    def __init__(self, policy: Policy, cells: Iterable[int], *, bias: bool = True) -> None:
        self.model, self._policy = policy.model, policy
        size, device = policy.model.get_output_embeddings().weight.shape[1], next(policy.model.parameters()).device
        self._heads = {cell: nn.Parameter(torch.zeros(size + bias, device=device)) for cell in cells}
        self.rows, self.alone, self.close = policy.rows, policy.alone, policy.close
        self.mix_into = policy.mix_into

    def parameters(self, cell: int) -> dict[str, nn.Parameter]:
        """Return what the policy has, and the head: its weights, then its bias if it has one."""
        head = {"value_head": self._heads[cell]} if cell in self._heads else {}
        return {**self._policy.parameters(cell), **head}

    def values(self, cell: int, hidden_CH: Tensor) -> Tensor:
        """Return what a cell's value head says of hidden states, float32 `[C]`."""
        return head_values(self._heads[cell], hidden_CH)

    def save(self, cell: int, folder: Path) -> None:
        """Save the weights, and the head beside them."""
        self._policy.save(cell, folder)
        if cell in self._heads:
            save_file({"value_head": self._heads[cell].detach().contiguous()}, folder / VALUE_HEAD)
            make_readable(folder)


def head_values(head: Tensor, hidden_CH: Tensor) -> Tensor:
    """Return what a value head, `[hidden]` or with a bias `[hidden + 1]`, says of hidden states, `[C]`."""
    size = hidden_CH.shape[1]
    return hidden_CH.to(head.dtype) @ head[:size] + head[size:].sum()


def _targets(model: PreTrainedModel, settings: LoraSettings) -> tuple[LoraConfig, dict[str, Any]]:
    """Let PEFT find the target layers and put an adapter on each; dropout is zero, for every method alike."""
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
        adapted = get_peft_model(model, config)
    resolved = adapted.peft_config["default"]
    assert isinstance(resolved, LoraConfig)
    resolved.inference_mode = True
    base = adapted.get_base_model()
    return resolved, {name: module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}


def _initial(layers: Mapping[str, Any], seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the A and B that a cell of this seed starts from, as PEFT draws them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "lora"))
        for layer in layers.values():
            layer.reset_lora_parameters("default", True)
    return {
        name: (layer.lora_A["default"].weight.detach().clone(), layer.lora_B["default"].weight.detach().clone())
        for name, layer in layers.items()
    }


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def make_readable(folder: Path) -> None:
    """Let others read the files of a model folder."""
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors opens its files for their owner alone
