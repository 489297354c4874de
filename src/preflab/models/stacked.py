"""A linear layer with the LoRA adapters of several cells on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Rows:
    """Whose tokens the current forward holds: each cell and where its tokens lie; empty: no adapter applies."""

    parts: tuple[tuple[int, slice], ...] = ()

    def hold(self, tokens: Mapping[int, int]) -> None:
        """Note that the tokens of one cell follow those of another: cell to how many."""
        ends = pairwise(accumulate(tokens.values(), initial=0))
        self.parts = tuple((cell, slice(start, stop)) for cell, (start, stop) in zip(tokens, ends, strict=True))


class StackedLinear(nn.Module):
    """`W x + scale * B_k A_k x` for the tokens of cell k; W is frozen and shared.

    Args:
        base_layer: the frozen layer.
        a: `[cell, r, in]`.
        b: `[cell, out, r]`.
        scale: alpha / r.
        rows: whose tokens come; shared by all layers of a model.
    """

    def __init__(self, base_layer: nn.Module, a: Tensor, b: Tensor, scale: float, rows: Rows) -> None:
        super().__init__()
        self.base_layer, self.a, self.b, self.scale, self._rows = base_layer, a, b, scale, rows

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., out]` for `[..., in]`; the leading axes hold the tokens of one cell after another."""
        if not self._rows.parts:
            return self.base_layer(x)
        flat = x.reshape(-1, x.shape[-1])
        out: Tensor = _AddLora.apply(self.base_layer(flat), flat, self.a, self.b, self.scale, self._rows.parts)
        return out.view(*x.shape[:-1], -1)

    def delta(self, cell: int) -> Tensor:
        """Return what a cell's adapter adds to the weight, in the layout of the weight."""
        product = self.scale * (self.b[cell] @ self.a[cell])
        return product if isinstance(self.base_layer, nn.Linear) else product.T  # GPT-2's Conv1D keeps [in, out]


class _AddLora(torch.autograd.Function):
    """Adds every cell's update to its own tokens in place: one node of the graph, whatever the number of cells.

    The gradients of A and B are added to `.grad` here, each cell's to its own part.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        scale: float,
        parts: Sequence[tuple[int, slice]],
    ) -> Tensor:
        ctx.scale, ctx.parts, ctx.gradients = scale, parts, (a.grad, b.grad)
        a, b = a.to(x.dtype), b.to(x.dtype)
        inner = x.new_empty(len(x), a.shape[1])
        if y._is_view():
            y = y.clone()
        else:
            ctx.mark_dirty(y)
        for cell, part in parts:
            torch.mm(x[part], a[cell].T, out=inner[part])
        inner *= scale
        for cell, part in parts:
            y[part].addmm_(inner[part], b[cell].T)
        ctx.save_for_backward(x, inner, a, b)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = slopes
        x, inner, a, b = ctx.saved_tensors
        a_grad, b_grad = ctx.gradients
        x_grad, through = torch.empty_like(x), torch.empty_like(inner)
        for cell, part in ctx.parts:
            torch.mm(slope[part], b[cell], out=through[part])
            b_grad[cell] += slope[part].T @ inner[part]
        through *= ctx.scale
        for cell, part in ctx.parts:
            torch.mm(through[part], a[cell], out=x_grad[part])
            a_grad[cell] += through[part].T @ x[part]
        return slope, x_grad, None, None, None, None
