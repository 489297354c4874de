"""A linear layer with the LoRA adapters of several cells on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Part(NamedTuple):
    """Cells that follow each other with equally many tokens: one batched product serves them."""

    cells: slice
    tokens: slice


@dataclass(slots=True)
class Rows:
    """Whose tokens the current forward holds; without parts no adapter applies."""

    parts: tuple[Part, ...] = ()

    def hold(self, tokens: Mapping[int, int]) -> None:
        """Note that the tokens of one cell follow those of another: cell to how many."""
        parts, start = list[Part](), 0
        for _, run in groupby(enumerate(tokens.items()), key=lambda entry: (entry[1][0] - entry[0], entry[1][1])):
            cells = [(cell, n) for _, (cell, n) in run]
            (first, each), stop = cells[0], start + sum(n for _, n in cells)
            if each:
                parts.append(Part(slice(first, first + len(cells)), slice(start, stop)))
            start = stop
        self.parts = tuple(parts)


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
        self.base_layer, self.a, self.b, self.scale, self.rows = base_layer, a, b, scale, rows

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., out]` for `[..., in]`; the leading axes hold the tokens of one cell after another."""
        if not self.rows.parts:
            return self.base_layer(x)
        flat = x.reshape(-1, x.shape[-1])
        out: Tensor = _AddLora.apply(self.base_layer(flat), flat, self.a, self.b, self.scale, self.rows.parts)
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
    def forward(ctx: Any, y: Tensor, x: Tensor, a: Tensor, b: Tensor, scale: float, parts: Sequence[Part]) -> Tensor:
        ctx.scale, ctx.parts, ctx.gradients = scale, parts, (a.grad, b.grad)
        a, b = a.to(x.dtype), b.to(x.dtype)
        inner = x.new_empty(len(x), a.shape[1])
        if y._is_view():
            y = y.clone()
        else:
            ctx.mark_dirty(y)
        for cells, part in parts:
            n = cells.stop - cells.start
            own = _by_cell(inner[part], n)
            torch.bmm(_by_cell(x[part], n), a[cells].mT, out=own)
            own *= scale
            _by_cell(y[part], n).baddbmm_(own, b[cells].mT)
        ctx.save_for_backward(x, inner, a, b)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        slope = slopes[0].contiguous()
        x, inner, a, b = ctx.saved_tensors
        a_grad, b_grad = ctx.gradients
        x_grad = torch.empty_like(x)
        for cells, part in ctx.parts:
            n = cells.stop - cells.start
            own = _by_cell(slope[part], n)
            b_grad[cells] += own.mT @ _by_cell(inner[part], n)
            through = own @ b[cells]
            through *= ctx.scale
            a_grad[cells] += through.mT @ _by_cell(x[part], n)
            torch.bmm(through, a[cells], out=_by_cell(x_grad[part], n))
        return slope, x_grad, None, None, None, None


def _by_cell(x: Tensor, n: int) -> Tensor:
    """Return `[cell, token, ...]` of the tokens of `n` cells, one after another."""
    return x.view(n, -1, x.shape[-1])
