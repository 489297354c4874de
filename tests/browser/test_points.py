"""The marks of figures in a browser: by mouse, by finger, by keys."""

import pytest
from tests.browser.test_pages import SHAPE
from tests.report.synthetic import make

from preflab.report.analysis import analyse
from preflab.report.page import write_report
from preflab.report.sections import ranking_table

TABLES = make(SHAPE)
TIP = "#point-tip"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return write_report(make(SHAPE), tmp_path_factory.mktemp("fresh") / "report.html").as_uri()


@pytest.fixture(scope="module")
def rows():
    """Name, score and interval of the methods in the first panel, best first."""
    analysis = analyse(TABLES)
    assert analysis.scopes[0] == "sft"
    table = ranking_table(analysis, analysis.ranking("test", "sft"))
    return [(row[0].text, f"Gold reward {row[1].text} ({row[1].note})") for row in table.rows[: len(SHAPE.methods)]]


def mark(page, name, k=0, *, section="ranking"):
    """Return the k-th mark of a method, in the middle of the window."""
    found = page.locator(f"#{section} .points g[data-title='{name}'] circle").nth(k)
    found.evaluate("each => each.scrollIntoView({block: 'center', inline: 'center'})")
    return found


def centre(found):
    box = found.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_hovering_shows_the_number_of_the_table_and_sets_the_method_off(watch, fresh, rows):
    watched = watch()
    page = watched.open(fresh)
    assert not page.locator(TIP).is_visible()
    for name, value in rows:
        x, y = centre(mark(page, name))
        page.mouse.move(x + 4, y + 3)  # near is enough
        said = page.locator(TIP).inner_text().split("\n")
        assert said[0] == f"{name} from sft, test prompts" and value in said
        dim = page.locator("#ranking svg.asked [data-series]:not(.same)").first
        page.wait_for_function("each => getComputedStyle(each).opacity < 0.5", arg=dim.element_handle())
    page.mouse.move(2, 2)
    assert not page.locator(TIP).is_visible() and page.locator("svg.asked").count() == 0
    watched.is_clean()


def test_keys_reach_every_mark_and_a_screen_reader_hears_its_words(watch, fresh, rows):
    page = watch().open(fresh)
    page.locator("#ranking .scroll").first.focus()
    page.keyboard.press("Tab")
    words = lambda: page.evaluate("document.activeElement.getAttribute('aria-label')")  # noqa: E731
    first = words()
    assert page.locator(TIP).inner_text() == first
    names = {name for name, _ in rows}
    seen = set()
    for _ in rows:
        page.keyboard.press("ArrowDown")
        seen.add(words().split(" from ")[0])
    assert seen == names and words() == first
    n = page.locator("#ranking .points g").first.locator("circle").count()
    along = []
    for _ in range(n):
        page.keyboard.press("ArrowRight")
        along.append(words())
    assert len(set(along)) == n and along[-1] == first
    assert page.locator("#ranking svg").get_attribute("role") == "group"
    page.keyboard.press("Escape")
    assert not page.locator(TIP).is_visible()


def test_one_tab_leads_into_a_figure_and_the_next_one_out(watch, fresh):
    page = watch().open(fresh)
    page.locator("#ranking .scroll").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement instanceof SVGElement")


@pytest.mark.parametrize("width", [360, 820])
def test_a_tap_shows_the_numbers_inside_the_window_and_a_tap_beside_hides_them(watch, fresh, rows, width):
    page = watch(width=width, has_touch=True, color_scheme="dark").open(fresh)
    for k in range(3):
        page.touchscreen.tap(*centre(mark(page, rows[0][0], k)))
        box = page.locator(TIP).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] >= 0
        assert rows[0][0] in page.locator(TIP).inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#ranking figcaption").first.tap()
    assert not page.locator(TIP).is_visible()


def test_a_method_can_be_hidden_and_shown_again(watch, fresh):
    page = watch().open(fresh)
    figure = page.locator("#starts figure").first
    toggle = figure.locator(".point-show button").first
    name = toggle.inner_text()
    lines = figure.locator("svg > g:not(.points) [data-series='0']").first
    assert lines.is_visible()
    toggle.click()
    assert toggle.get_attribute("aria-pressed") == "false" and not lines.is_visible()
    figure.locator("circle[tabindex='0']").focus()
    for _ in range(len(SHAPE.methods)):
        assert name not in page.locator(TIP).inner_text()
        page.keyboard.press("ArrowDown")
    toggle.click()
    assert lines.is_visible()


def test_without_a_script_the_browser_shows_the_words_by_itself(watch, fresh, rows):
    page = watch(java_script_enabled=False).open(fresh)
    titles = page.locator("#ranking .points circle title")
    assert rows[0][1] in titles.first.text_content()
    assert page.locator(".point-show").count() == 0


def test_it_prints_as_if_nobody_had_asked(watch, fresh, rows):
    page = watch().open(fresh)
    mark(page, rows[0][0]).focus()
    page.emulate_media(media="print")
    page.wait_for_timeout(200)
    assert not page.locator(TIP).is_visible()
    assert page.evaluate(
        "[...document.querySelectorAll('svg [data-series]')].every(e => getComputedStyle(e).opacity === '1')"
    )
