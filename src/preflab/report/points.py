"""The marks of a figure that a reader can ask for their numbers: by hovering, by tapping, by keys."""

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_REACH = 7.0  # SVG units around the centre of a mark
_TAG = "of"


@dataclass(slots=True)
class Series:
    """What belongs together in a figure, such as a method: it is drawn in one colour and is set off as one.

    Args:
        number: its place among the series of the figure.
        title: its name for people.
        colour: as in the figure.
        tagged: parts of the drawing that belong to it.
        marks: axes, x and y in data units, and what the mark says; the first line is its heading.
    """

    number: int
    title: str
    colour: str
    tagged: int = 0
    marks: list[tuple[Any, float, float, str]] = field(default_factory=list)

    def drew(self, artists: Any) -> None:
        """Let something drawn, or everything in what a plotting function returned, belong to the series."""
        for artist in _each(artists):
            artist.set_gid(f"{_TAG}-{self.number}-{self.tagged}")
            self.tagged += 1

    def at(self, axis: Any, x: float, y: float, *lines: str) -> None:
        """Let the mark at a place say something; empty lines are left out."""
        self.marks.append((axis, float(x), float(y), "\n".join(line for line in lines if line)))


class Points:
    """The marks of one figure, by series.

    Args:
        toggled: whether readers may hide series, because they lie over each other.
    """

    def __init__(self, *, toggled: bool = False) -> None:
        self.toggled = toggled
        self._series: dict[tuple[str, str], Series] = {}

    def series(self, title: str, colour: str) -> Series:
        """Return the series of a name; it begins when it is first asked for."""
        return self._series.setdefault((title, colour), Series(len(self._series), title, colour))

    def overlay(self, figure: Any, colours: Mapping[str, str]) -> str:
        """Return the marks as a group to lay over the SVG of a figure that is laid out: a circle each, with its words.

        Args:
            figure: the matplotlib figure.
            colours: colours that the page gives by other names.
        """
        groups = []
        for series in self._series.values():
            circles = [circle for mark in series.marks for circle in _circle(figure, *mark)]
            colour = colours.get(series.colour, series.colour)
            groups.append(
                f'<g data-series="{series.number}" data-title="{html.escape(series.title)}" color="{colour}">'
                f"{''.join(circles)}</g>"
            )
        toggled = " toggled" if self.toggled and len(groups) > 1 else ""
        return f'<g class="points{toggled}">{"".join(groups)}</g>'


def belonging(id_: str) -> str | None:
    """Return the number of the series that a tagged part of a drawing belongs to; None for other parts."""
    tag, _, rest = id_.partition("-")
    return rest.partition("-")[0] if tag == _TAG else None


def _circle(figure: Any, axis: Any, x: float, y: float, words: str) -> Iterator[str]:
    """Yield the circle of a mark, unless it lies outside its panel and is therefore not drawn."""
    left, up = axis.transData.transform((x, y))
    if axis.bbox.padded(1).contains(left, up):
        unit = 72 / figure.dpi
        place = f'cx="{left * unit:.1f}" cy="{(figure.bbox.height - up) * unit:.1f}"'
        yield f'<circle {place} r="{_REACH:g}"><title>{html.escape(words, quote=False)}</title></circle>'


def _each(found: Any) -> Iterator[Any]:
    """Yield the artists in what a plotting function returned: one, a list of them, or error bars."""
    if isinstance(found, list | tuple):
        for part in found:
            yield from _each(part)
    elif found is not None:
        yield found
