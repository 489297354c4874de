"""Matplotlib figures as inline SVG that takes its fonts and its ink from the page, so that dark mode and print work."""

import contextlib
import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preflab.core.errors import ConfigError
from preflab.report.points import Points, belonging
from preflab.stats.intervals import Interval

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#dfe3e8", "#fefefe"
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8b5fbf", "#7a7a7a", "#a0522d", "#3c8d2f",
)  # fmt: skip
"""Okabe and Ito's colour-blind-safe palette, its yellow and black replaced by tones visible on white and on black."""
_OWN = 0.5
"""Share of its series' colour in a name; the rest is ink, which all of them need to be read on white and on black."""


def name_colour(colour: str) -> str:
    """Return the colour in which the name of a series is written; on the page its ink follows the theme."""
    mixed = (round(_OWN * int(colour[k : k + 2], 16) + (1 - _OWN) * int(INK[k : k + 2], 16)) for k in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in mixed)


_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--paper)"} | {
    name_colour(colour): f"color-mix(in srgb, {colour} {_OWN:.0%}, var(--ink))" for colour in COLOURS
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")

_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: small, selectable, readable by screen readers
    "pdf.fonttype": 42,  # outlines that journals accept and readers can search
    "svg.hashsalt": "preflab",  # the same study gives the same bytes
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "legend.facecolor": PAPER,  # lines behind do not strike its words through
    "legend.edgecolor": "none",
}  # fmt: skip
_DPI = 200
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Signs that a name may have and XML may not."""
_METADATA: Any = {  # nothing that differs from one run or machine to the next
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": "preflab", "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True, slots=True)
class FigureText:
    """A figure as it stands on the page, and the drawing behind it.

    Args:
        svg: the inline SVG element.
        caption: what to see in it, for everyone.
        name: what its files are called.
        label: what a screen reader says.
        figure: the matplotlib figure; None where there is the element only.
    """

    svg: str = field(repr=False)
    caption: str
    name: str = ""
    label: str = ""
    figure: Any = field(default=None, repr=False, compare=False)

    def save(self, path: Path) -> Path:
        """Write the figure as a file of its own, on white, and return its path; the same figure gives the same bytes.

        Args:
            path: ends in `.svg`, `.pdf` or `.png`.

        Raises:
            ConfigError: another ending.
        """
        kind = Path(path).suffix.removeprefix(".").lower()
        if kind not in _METADATA:
            raise ConfigError(f"{path}: a figure is written as .svg, .pdf or .png; name such a file.")
        if kind == "svg":
            Path(path).write_text(self._repr_svg_(), encoding="utf-8", newline="")
        else:
            self._write(path, kind)
        return Path(path)

    def _repr_svg_(self) -> str:
        """Show the figure in a notebook."""
        buffer = io.StringIO()
        self._write(buffer, "svg")
        return _NOT_XML.sub(" ", buffer.getvalue())

    def _write(self, where: Any, kind: str) -> None:
        patch = self.figure.patch
        patch.set_visible(True)
        try:
            with style():
                metadata = {**_METADATA[kind], "Title": self.label}
                self.figure.savefig(where, format=kind, dpi=_DPI, facecolor="white", metadata=metadata)
        finally:
            patch.set_visible(False)


def reach(intervals: Sequence[Interval], *, floor: float = -math.inf) -> NDArray[np.float64]:
    """Return how far error bars go below and above their points, `[2, interval]`: 0 where there are no bounds.

    Args:
        intervals: with the points as estimates; one that leans to a side has bars that do.
        floor: what no bar goes below, such as 0 for an amount.
    """
    below = [max(0.0, max(i.estimate, floor) - max(i.low, floor)) for i in intervals]
    above = [max(0.0, i.high - max(i.estimate, floor)) for i in intervals]
    return np.array([below, above])


def drawn(figure: Any, name: str, label: str, caption: str, points: Points | None = None) -> FigureText:
    """Return a figure for the page that can be written as a file too.

    Args:
        figure: a matplotlib figure whose parts were made within `style`.
        name: what its files are called; keeps ids of several figures on a page apart.
        label: what a screen reader says.
        caption: what to see in it, for everyone.
        points: marks that say their numbers on the page.
    """
    with style():
        svg = to_svg(figure, name, label, points)
    return FigureText(svg, caption, name, label, figure)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Let matplotlib draw in the style of the page."""
    from matplotlib import rc_context

    with rc_context(_SETTINGS), warnings.catch_warnings():
        # Text stays text in an SVG and takes the reader's fonts, whatever ours lack.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


def panels(rows: int, columns: int, *, width: float, height: float, **sharing: Any) -> tuple[Any, Any]:
    """Return a figure and its axes `[row, column]`; sizes in inches, 72 SVG units each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.subplots(rows, columns, squeeze=False, **sharing)
    for axis in axes.flat:
        axis.patch.set_visible(False)
    return figure, axes


def settle(figure: Any) -> None:
    """Lay a figure out once and for good, because drawing would otherwise do it again three times."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def to_svg(figure: Any, name: str, label: str, points: Points | None = None) -> str:
    """Return a figure as an SVG element for the middle of a page.

    Args:
        figure: a matplotlib figure.
        name: prefix that keeps ids of several figures apart.
        label: what a screen reader says.
        points: marks that say their numbers.
    """
    settle(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    text = buffer.getvalue()
    text = _NOT_XML.sub(" ", text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]+)"', lambda match: _named(name, match[1]), text)
    text = re.sub(r'(href="|url\()#', lambda match: f"{match[1]}#{name}-", text)
    text = re.sub(r'font: ((?:\w+ )?)([\d.]+px) [^;"]*', _font, text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r' style="([^"]*)"', _attributes, text)
    # Without width and height the element fills its column, whatever the font size of the page.
    text = re.sub(r"<svg[^>]*?>", lambda tag: re.sub(r' (?:width|height)="[^"]*"', "", tag.group()), text, count=1)
    opening = f'<svg role="img" focusable="false" stroke-linejoin="round" aria-label="{html.escape(label, quote=True)}"'
    text = text.replace("<svg", opening, 1)
    if points is not None:
        overlay = _NOT_XML.sub(" ", points.overlay(figure, _VARIABLES))
        text = f"{text[: text.rindex('</svg>')]}{overlay}\n</svg>\n"
    return text


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move label positions apart until neighbours keep a gap, as little as possible and in the same order."""
    order = sorted(range(len(positions)), key=lambda k: positions[k])
    blocks: list[list[float]] = []  # [centre of the block, number of labels]
    for k in order:
        blocks.append([positions[k], 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            last, before = blocks.pop(), blocks.pop()
            n = last[1] + before[1]
            blocks.append([(last[0] * last[1] + before[0] * before[1]) / n, n])
    placed = [centre + gap * (j - (n - 1) / 2) for centre, n in blocks for j in range(int(n))]
    result = [0.0] * len(positions)
    for k, place in zip(order, placed, strict=True):
        result[k] = place
    return result


def _named(figure: str, id_: str) -> str:
    """Return the id of a part of a figure on the page; parts of a series say which one instead."""
    series = belonging(id_)
    return f'id="{figure}-{id_}"' if series is None else f'data-series="{series}"'


def _font(match: re.Match[str]) -> str:
    weight = match.group(1).strip()
    return (f"font-weight: {weight}; " if weight else "") + f"font-size: {match.group(2)}; font-family: inherit"


def _attributes(match: re.Match[str]) -> str:
    """Return the declarations of a style attribute as attributes: the page's policy allows no inline style."""
    pairs = [part.partition(":") for part in match[1].split(";") if part.strip()]
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in pairs)
