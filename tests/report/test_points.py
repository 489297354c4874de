"""What the marks of figures say, and that they lie where they are drawn."""

import itertools
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.transforms import Bbox
from tests.report.test_robustness import LUCKY, SAFE, world

from preflab.report.analysis import SPLITS, analyse
from preflab.report.figures import lengths_figure, likelihood_figure, ranking_figure, sizes_figure
from preflab.report.frontier import frontier_figure
from preflab.report.lengths import settings_figure
from preflab.report.points import Points
from preflab.report.ranking import POOLED
from preflab.report.robustness import context, robustness
from preflab.report.robustness_figures import curve_figure, effects_figure, kl_figure, profile_figure
from preflab.report.sections import behaviour_table, ranking_table
from preflab.report.svg import drawn, panels, style
from preflab.report.wording import number, score, signed

SVG = "{http://www.w3.org/2000/svg}"


def marks(figure):
    """Return title of the series, lines of the words, and place of every mark."""
    found = []
    for group in ET.fromstring(figure.svg).iterfind(f".//{SVG}g[@data-title]"):
        for circle in group:
            words = circle.find(f"{SVG}title").text.split("\n")
            place = float(circle.get("cx")), float(circle.get("cy"))
            found.append(SimpleNamespace(series=group.get("data-title"), words=words, place=place))
    return found


def drawn_places(figure):
    """Return where markers are drawn, `[marker, xy]`, by the title of their series."""
    root = ET.fromstring(figure.svg)
    titles = {g.get("data-series"): g.get("data-title") for g in root.iterfind(f".//{SVG}g[@data-title]")}
    found = {title: [] for title in titles.values()}
    for group in root.iterfind(f".//{SVG}g[@data-series]"):
        for use in group.iter(f"{SVG}use"):
            found[titles[group.get("data-series")]].append((float(use.get("x")), float(use.get("y"))))
    return {title: np.array(places) for title, places in found.items()}


@pytest.fixture(scope="module")
def grids():
    return analyse(world({"safe": SAFE, "lucky": LUCKY}))


@pytest.fixture(scope="module")
def study(synthetic):
    return analyse(synthetic.make(synthetic.Shape(("dpo", "ipo", "simpo"), ("base", "sft"), (64, 256), prompts=20)))


def test_a_dot_of_the_ranking_says_what_its_row_of_the_table_says(study):
    said = {(m.words[0], m.series): "\n".join(m.words) for m in marks(ranking_figure(study))}
    splits, rows = {"test": "test prompts", "ood": "out-of-distribution prompts"}, 0
    for scope in (POOLED, "base", "sft"):
        for split in SPLITS:
            ranking = study.ranking(split, scope)
            where = f"over {POOLED}" if scope == POOLED else f"from {scope}"
            for method, value, *_ in ranking_table(study, ranking).rows[: len(ranking.rows)]:
                words = said[f"{method.text} {where}, {splits[split]}", method.text]
                assert f"Gold reward {value.text} ({value.note})" in words
                assert f"{ranking.n_items} prompts" in words and "2 seeds" in words
                rows += 1
    assert rows == len(said) == 18


def test_names_cover_no_point_no_line_and_not_their_own_bars(synthetic):
    methods = ("sft", "dpo", "ipo", "simpo", "orpo", "kto", "cpo", "slic_hf")
    study = analyse(synthetic.make(synthetic.Shape(methods, ("base", "sft"), prompts=20)))
    for figure, own in ((frontier_figure(study), 1), (likelihood_figure(study, "sft"), 0)):
        for axis in filter(lambda axis: axis.get_visible(), figure.figure.axes):
            texts, unit = axis.texts, figure.figure.dpi / 72
            boxes = [text.get_window_extent() for text in texts]
            assert boxes and all(axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 for box in boxes)
            assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
            for line in axis.lines[1 - own :]:  # the first one of a likelihood is the line at zero
                marks = axis.transData.transform(line.get_xydata())
                assert not any(box.contains(*mark) for box in boxes for mark in marks)
            for text, box in zip(texts, boxes, strict=True):
                bars = [bar for bars in axis.collections if own for bar in bars.get_segments()]
                bars = [bar for bar in bars if (bar == text.xy).all(axis=0).any()]
                assert len(bars) == 2 * own
                assert not any(box.overlaps(Bbox(axis.transData.transform(bar)).padded(0.1)) for bar in bars)
            if own:  # half a star
                assert axis.bbox.x0 + 4 * unit < axis.transData.transform((0, 0))[0]


def test_a_point_of_the_frontier_says_the_kl_of_the_table_and_its_setting(study):
    found = {m.words[0]: m for m in marks(frontier_figure(study))}
    assert len(found) == 8  # three methods and the start point, from two start points
    table = behaviour_table(study, "test", "sft")
    at = [title for title, _ in table.head].index("KL to the start")
    rows = {row[0].text: row[at].text for row in table.rows}
    for title in ("DPO", "IPO", "SimPO"):
        words = found[f"{title} from sft, test prompts"].words
        assert words[3].startswith(f"KL {rows[title]} (")
        assert "learning_rate=" in words[1] and words[4] == "256 training pairs, 2 seeds, 20 prompts"
    assert "Start point sft, test prompts" in found


def test_every_point_of_the_expected_best_is_a_number_of_its_table(grids):
    section = context(grids, "sft")
    [table] = [t for block in section["blocks"] for t in block["tables"] if t.name.startswith("robustness")]
    said = {(m.series, m.words[1]): m.words[2] for m in marks(section["figures"][0])}
    assert len(said) == 8
    titles = [title for title, _ in table.head]
    for method, *cells in table.rows:
        one, three = (cells[titles.index(title) - 1] for title in ("One random setting", "Best of 3"))
        assert said[method.text, "One random setting"] == f"Gold reward {one.text} ({one.note})"
        assert said[method.text, "Best of 3 random settings, expected"] == f"Gold reward {three.text} ({three.note})"


def test_every_setting_says_its_own_mean(grids):
    found = {("sft", "test"): (result := robustness(grids, "sft", "test"))}
    means = {
        (grids.title(name), label): mean
        for name, m in result.methods.items()
        for label, mean in zip(m.found.labels, m.found.grid.means, strict=True)
    }
    for figure in (profile_figure(grids, found), kl_figure(grids, "sft")):
        said = {(m.series, m.words[1].partition(";")[0]): m.words[2] for m in marks(figure)}
        assert said.keys() == means.keys()
        for key, mean in means.items():
            assert said[key].startswith(f"Gold reward {score(mean, rate=False)} (")


def test_a_setting_that_diverged_says_so_and_shows_no_interval_of_its_own():
    found = analyse(world({"safe": SAFE, "brittle": (0.5, None, 0.6)}))
    said = [m for m in marks(profile_figure(found, {("sft", "test"): robustness(found, "sft", "test")}))
            if "diverged" in m.words[1]]  # fmt: skip
    assert len(said) == 1 and said[0].words[1].endswith("diverged, counted as the start point")
    assert "(" not in said[0].words[2]


def test_a_line_of_log_probs_says_mean_and_range_of_the_change_over_seeds(study):
    found = [m for m in marks(likelihood_figure(study, "sft")) if m.words[0] == "DPO from sft: rejected responses"]
    cells = study.tables.cells
    mine = cells[(cells["start"] == "sft") & (cells["method"] == "dpo") & (cells["size"] == 256) & cells["selected"]]
    frame = study.tables.dynamics[study.tables.dynamics["cell"].isin(mine["cell"])]
    wide = frame.pivot_table(index="pairs_seen", columns="cell", values="rejected_total")
    change = wide - wide.iloc[0]
    assert [m.words[1] for m in found] == [f"After {seen:,.0f} pairs" for seen in change.index[1:]]
    last = change.iloc[-1]
    assert found[-1].words[2] == (
        f"{signed(last.mean(), 2)} ({number(last.min(), 2)} to {number(last.max(), 2)} over 2 seeds) nats per response"
    )


@pytest.mark.parametrize("figure", [ranking_figure, sizes_figure, lengths_figure, frontier_figure])
def test_marks_lie_on_what_is_drawn_for_their_method(study, figure):
    shown = figure(study)
    places, found = drawn_places(shown), marks(shown)
    assert len(found) > 6
    for mark in found:
        assert np.abs(places[mark.series] - mark.place).max(axis=1).min() < 0.1


def test_marks_lie_on_what_is_drawn_for_every_setting(grids):
    found = {("sft", "test"): robustness(grids, "sft", "test")}
    for shown in (curve_figure(grids, found), profile_figure(grids, found), kl_figure(grids, "sft"),
                  effects_figure(grids, found), settings_figure(grids, "sft")):  # fmt: skip
        if shown is not None:
            places = drawn_places(shown)
            assert all(np.abs(places[m.series] - m.place).max(axis=1).min() < 0.1 for m in marks(shown))


def test_hostile_names_stay_text_and_marks_outside_their_panel_are_left_out():
    bad, points = "\"><script>alert(1)</script><g x='", Points(toggled=True)
    with style():
        figure, axes = panels(1, 1, width=3, height=2)
        series = points.series(bad, "#0072b2")
        series.drew(axes[0, 0].errorbar([0.5, 2], [0.5, 0.5], yerr=[0.1, 0.1], marker="o"))
        axes[0, 0].set_xlim(0, 1)
        for x in (0.5, 2):
            series.at(axes[0, 0], x, 0.5, bad, "", "second\x00line")
    shown = drawn(figure, "x", "label", "caption", points)
    [mark] = marks(shown)
    assert mark.series == bad and mark.words == [bad, "second line"]
    assert "<script" not in shown.svg and 'id="x-of' not in shown.svg
    assert shown.svg.count('data-series="0"') == 3  # line, bars, marks


def test_one_seed_and_one_prompt_say_that_there_is_no_interval(synthetic):
    shape = synthetic.Shape(methods=("dpo",), starts=("base",), seeds=1, prompts=1)
    words = [m.words for m in marks(ranking_figure(analyse(synthetic.make(shape))))]
    assert words and all(
        "(no interval)" in lines[2] and "1 seed" in lines and lines[-1].endswith(", 1 prompt") for lines in words
    )
