import hashlib
import itertools
import json
import math
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.curves import MAX_POINTS, curves
from preflab.report.frontier import frontier_figure
from preflab.report.svg import COLOURS, reach
from preflab.stats.intervals import Interval

HOME = resources.files("preflab.report")
TEXTS = ("ink", "muted", "link", "good", "warn", "info")
BACKGROUNDS = ("paper", "raised", "info-soft")
PAIRS = [*itertools.product(TEXTS, BACKGROUNDS), ("good", "good-soft"), ("warn", "warn-soft"), ("ink", "warn-soft"),
         ("muted", "warn-soft"), ("link", "warn-soft"), ("ink", "mark")]  # fmt: skip


def luminance(colour):
    """Return the relative luminance of WCAG 2.2."""
    parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_colour_can_be_read_on_every_ground(theme):
    found = re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\)", (HOME / "page.css").read_text())
    colours = {name: pair[theme] for name, *pair in found}
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    low = {pair: contrast(*(colours[name] for name in pair)) for pair in PAIRS}
    assert {pair: round(value, 2) for pair, value in low.items() if value < 4.5} == {}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_name_of_every_series_can_be_read(theme, synthetic):
    found = re.findall(r"--(ink|paper): light-dark\((#\w{6}), (#\w{6})\)", (HOME / "page.css").read_text())
    page = {name: pair[theme] for name, *pair in found}
    methods = ("dpo", "ipo", "simpo", "orpo", "kto", "cpo", "slic_hf", "ln_dpo", "sft", "cdpo")
    figure = frontier_figure(analyse(synthetic.make(synthetic.Shape(methods, ("base",), prompts=8))))
    mixes = set(re.findall(r'<text[^>]*fill="color-mix\(in srgb, (#\w{6}) (\d+)%, var\(--ink\)\)"', figure.svg))
    assert {colour for colour, _ in mixes} == set(COLOURS)

    def mixed(colour, share):
        parts = [int(share) * int(colour[k : k + 2], 16) + (100 - int(share)) * int(page["ink"][k : k + 2], 16)
                 for k in (1, 3, 5)]  # fmt: skip
        return "#" + "".join(f"{round(part / 100):02x}" for part in parts)

    assert min(contrast(mixed(*mix), page["paper"]) for mix in mixes) >= 4.5
    for text in (text for axis in figure.figure.axes for text in axis.texts):  # in files, which are on white
        assert contrast(text.get_color(), "#ffffff") >= 4.5


def test_vendored_files_are_those_of_the_manifest():
    listed = {}
    for package in json.loads((HOME / "vendor" / "manifest.json").read_text()).values():
        assert package["version"] in package["source"] and package["licence"]
        listed |= package["sha256"]
    there = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in (HOME / "vendor").iterdir()}
    assert {name: digest for name, digest in there.items() if name != "manifest.json"} == listed


def test_a_curve_is_the_mean_and_range_of_its_seeds(synthetic):
    shape = synthetic.Shape(methods=("dpo", "ipo"), starts=("base", "sft"), seeds=3, prompts=8)
    tables = synthetic.make(shape)
    found = curves(analyse(tables))
    assert [line["title"] for line in found["methods"]] == ["DPO", "IPO"]
    metric = [m["title"] for m in found["metrics"]].index("Implicit margin on validation pairs")
    panel = next(p for p in found["panels"] if p["start"] == "sft" and p["metric"] == metric)
    cells = tables.cells[
        (tables.cells["start"] == "sft") & (tables.cells["method"] == "ipo") & tables.cells["selected"]
    ]
    cells = cells[(cells["size"] == tables.cells["size"].max()) & (cells["status"] == "done")]
    mine = tables.dynamics[tables.dynamics["cell"].isin(cells["cell"])].groupby("pairs_seen")["margin"]
    line = panel["series"][1]
    assert panel["x"] == list(mine.mean().index)
    for name, expected in (("mean", mine.mean()), ("low", mine.min()), ("high", mine.max())):
        np.testing.assert_allclose(line[name], expected, rtol=1e-3)


def test_long_logs_are_thinned_and_keep_their_mean_and_end(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), seeds=1, prompts=8))
    cell = tables.cells.loc[(tables.cells["method"] == "dpo") & tables.cells["selected"], "cell"].iloc[-1]
    log = pd.DataFrame({"cell": cell, "step": np.arange(1, 1001), "loss": np.linspace(1, 0, 1000)})
    object.__setattr__(tables, "log", log)
    found = curves(analyse(tables))
    metric = [m["title"] for m in found["metrics"]].index("Training loss")
    panel = next(p for p in found["panels"] if p["metric"] == metric)
    assert len(panel["x"]) <= MAX_POINTS and panel["x"][-1] == 1000
    assert np.mean(panel["series"][0]["mean"]) == pytest.approx(0.5, abs=0.01)


def test_where_one_seed_stops_the_line_ends_and_without_training_there_is_none(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), seeds=2, prompts=8))
    cells = tables.cells.loc[(tables.cells["method"] == "dpo") & tables.cells["selected"], "cell"]
    size = tables.cells["size"].max()
    cells = [c for c in cells if tables.cells.set_index("cell").loc[c, "size"] == size]
    log = pd.DataFrame([(c, step, 1.0) for k, c in enumerate(cells) for step in range(1, 11 - 4 * k)],
                       columns=["cell", "step", "loss"])  # fmt: skip
    object.__setattr__(tables, "log", log)
    object.__setattr__(tables, "dynamics", pd.DataFrame())
    (panel,) = curves(analyse(tables))["panels"]
    assert panel["x"] == [1, 2, 3, 4, 5, 6]
    object.__setattr__(tables, "log", pd.DataFrame())
    assert curves(analyse(tables)) == {}


def test_curves_begin_with_the_start_point_of_the_answer_and_need_no_ranking(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base", "sft"), prompts=8))
    analysis = analyse(tables)
    order = [panel["start"] for panel in curves(analysis)["panels"] if panel["metric"] == 0]
    assert order == [analysis.leading.start, *({"base", "sft"} - {analysis.leading.start})]
    nothing = analyse(replace(tables, responses=tables.responses.iloc[:0], pairs=tables.pairs.iloc[:0]))
    assert nothing.leading is None and len(curves(nothing)["panels"]) == len(curves(analysis)["panels"])


def test_error_bars_lean_as_their_intervals_do_and_stay_above_a_floor():
    def found(estimate, low, high):
        return Interval(estimate, low, high, 0.1, 9, math.inf, "wilson")

    bars = reach([found(1.0, 0.44, 1.0), found(2.0, math.nan, math.nan), found(-1.0, -3.0, 4.0)], floor=0.0)
    np.testing.assert_allclose(bars, [[0.56, 0.0, 0.0], [0.0, 0.0, 4.0]])
    np.testing.assert_allclose(reach([found(-1.0, -3.0, 4.0)]), [[2.0], [5.0]])
