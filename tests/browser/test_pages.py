"""The report in a browser: nothing runs that should not, and everything can be reached, read and printed."""

import dataclasses
import io
import itertools
import json
import threading

import pytest
import uvicorn
from PIL import Image
from tests.browser.hostile import HOSTILE
from tests.report.on_disk import LARGE, write_study
from tests.report.synthetic import Shape, make

from preflab.report.claims import write_claims
from preflab.report.claims.rules import Claim, Finding
from preflab.report.page import write_report
from preflab.report.view import listening, make_view

WIDTHS = (360, 820, 1440)
SHAPE = Shape(methods=("dpo", "simpo", "slic_hf"), starts=("base", "sft"), sizes=(64, 256), prompts=40, snapshots=6)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The page of a study of three methods."""
    return write_report(make(SHAPE), tmp_path_factory.mktemp("fresh") / "report.html").as_uri()


def poisoned():
    """Return tables in which every text is hostile, and every hostile text is somewhere."""
    texts = itertools.cycle(HOSTILE)
    shape = dataclasses.replace(SHAPE, prompts=len(HOSTILE))
    tables = make(shape)
    named = {}

    def bad(text):
        return named.setdefault(text, next(texts)) if text else text

    def everywhere(value):
        if isinstance(value, str):
            return bad(value)
        if isinstance(value, dict):
            return {bad(k) if k in shape.methods else k: everywhere(v) for k, v in value.items()}
        return [everywhere(v) for v in value] if isinstance(value, list | tuple) else value

    cells = tables.cells.copy()
    for column in ("start", "method", "setting", "cause"):
        cells[column] = cells[column].map(bad)
    cells["hyperparameters"] = [{next(texts): next(texts), "beta": 0.1} for _ in range(len(cells))]
    responses, pairs = tables.responses.copy(), tables.pairs.copy()
    responses["family"], pairs["family"] = responses["family"].map(bad), pairs["family"].map(bad)
    for k, column in enumerate(("prompt", "chosen", "rejected", "response")):
        responses[column] = [HOSTILE[(row + 7 * k) % len(HOSTILE)] for row in responses["row"]]
    snapshots = tables.snapshots.copy()
    snapshots["response"] = [HOSTILE[k % len(HOSTILE)] for k in range(len(snapshots))]
    study = everywhere(tables.study)
    study["notes"] = list(HOSTILE)
    study["cards"] = {bad(name): everywhere(card) for name, card in tables.study["cards"].items()}
    return dataclasses.replace(tables, cells=cells, responses=responses, snapshots=snapshots, pairs=pairs, study=study)


FORBIDDEN = "img, iframe, object, embed, base, link, form, video, audio, frameset, math, marquee, xmp"


def untouched(page):
    """Assert that no element and no handler came from data."""
    assert page.locator(FORBIDDEN).count() == 0
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every(e => e.getAttributeNames().every(a => !a.startsWith('on')))"
    )
    assert page.evaluate("[...document.querySelectorAll('a[href]')].every(a => a.getAttribute('href').startsWith('#'))")


def test_there_are_a_hundred_hostile_texts():
    assert len(HOSTILE) >= 100


def test_a_fresh_page_asks_for_nothing_and_its_policy_is_never_broken(watch, fresh):
    watched = watch()
    page = watched.open(fresh)
    page.wait_for_selector("#v-table")
    page.wait_for_selector("#c-chart canvas")
    watched.is_clean()
    untouched(page)


def test_hostile_text_in_every_field_runs_nothing_and_sends_nothing(watch, tmp_path):
    watched = watch()
    page = watched.open(write_report(poisoned(), tmp_path / "report.html").as_uri())
    page.wait_for_selector("#v-table")
    for number in range(6):  # walk through the page as a reader would
        page.locator("#v-more").click() if page.locator("#v-more").is_visible() else None
        page.locator("#v-table .open").nth(3 * number).click()
    page.locator("#v-diff").check()
    page.locator("#v-table .star").first.click()
    page.locator("#v-table textarea.note").first.fill(HOSTILE[0])
    page.locator("#v-query").fill("<img src=x onerror=alert(1)>")
    page.locator("#v-query").fill("")
    for step in ("0", "1", "3"):
        page.locator("#v-step").fill(step)
    for select in ("#v-start", "#v-family", "#v-split", "#c-metric", "#c-start"):
        for k in range(page.locator(f"{select} option").count()):
            page.locator(select).select_option(index=k)
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    for mark in page.locator(".points circle[tabindex='0']").all():
        mark.focus()
        assert page.locator("#point-tip b").inner_text()
    for toggle in page.locator(".point-show button").all():
        toggle.click()
    page.mouse.move(640, 400)
    page.wait_for_timeout(200)
    watched.is_clean()
    untouched(page)


def test_hostile_links_notes_and_storage_run_nothing(watch, fresh, tmp_path):
    watched = watch()
    page = watched.open(fresh)
    for text in HOSTILE[:: len(HOSTILE) // 12]:
        page.evaluate(
            "text => { location.hash = '#r=' + text + '&query=' + text + '&start=' + text + '&without=' + text; }", text
        )
    marks = {"preflab": "marks", "study": "x", "marks": [{"prompt": t, "star": True, "note": t} for t in HOSTILE[:60]]}
    marks["marks"] += [{"prompt": "test.0", "star": True, "note": "<img src=x onerror=alert(1)>"}]
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(marks))
    page.locator("#v-import").set_input_files(file)
    page.wait_for_timeout(100)
    broken = tmp_path / "broken.json"
    broken.write_text("<script>{")
    page.locator("#v-import").set_input_files(broken)
    page.evaluate(
        "() => { try { for (const k of Object.keys(localStorage)) localStorage.setItem(k, '<script>['); } catch {} }"
    )
    page.reload()
    watched.requests = [url for url in watched.requests if not url.startswith(fresh)]
    watched.is_clean()
    untouched(page)


def test_hostile_claims_run_nothing(watch, tmp_path):
    findings = [Finding(Claim(t, t, t, t), "reproduced", (t, t)) for t in HOSTILE]
    watched = watch()
    page = watched.open(write_claims(tmp_path, HOSTILE[0], HOSTILE[1], findings, facts=HOSTILE[:5]).as_uri())
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    watched.is_clean()
    untouched(page)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_scrolls_sideways(watch, fresh, width):
    page = watch(width=width).open(fresh)
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_shade_says_that_a_table_goes_on_until_its_end(watch, fresh, scheme):
    page = watch(width=390, color_scheme=scheme).open(fresh)
    region = page.locator("#ranking .scroll:has(table)").first
    page.locator("table").evaluate_all("all => all.forEach((each) => { each.style.visibility = 'hidden'; })")

    def edges():
        """Return how far the left and the right edge stand out from the ground between them."""
        image = Image.open(io.BytesIO(region.screenshot())).convert("L")
        left, ground, right = (image.getpixel((x, image.height // 2)) for x in (0, image.width // 2, image.width - 1))
        return abs(left - ground) > 20, abs(right - ground) > 20

    assert region.evaluate("each => each.scrollWidth > each.clientWidth + 100")
    assert edges() == (False, True)
    region.evaluate("each => { each.scrollLeft = 50; }")
    assert edges() == (True, True)
    region.evaluate("each => { each.scrollLeft = each.scrollWidth; }")
    assert edges() == (True, False)
    page.set_viewport_size({"width": 2400, "height": 900})
    assert region.evaluate("each => each.scrollWidth === each.clientWidth") and edges() == (False, False)


CONTRAST = """() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith('color(') ? 255 : 1;
    return [found[0] * scale, found[1] * scale, found[2] * scale, found.length > 3 ? found[3] : 1];
  };
  const over = (top, below) => top.slice(0, 3).map((v, k) => v * top[3] + below[k] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
    if (node.closest('script, style, canvas, svg, option')) continue;
    const layers = [];
    for (let e = node; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    let below = [255, 255, 255];
    for (const layer of layers) below = over(layer, below);
    const ink = over(parse(getComputedStyle(node).color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const said = walker.currentNode.textContent.trim().slice(0, 40);
    if (ratio < 4.5) bad.push([ratio.toFixed(2), node.tagName, node.className, said]);
  }
  return bad.slice(0, 10);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(watch, fresh, scheme):
    page = watch(color_scheme=scheme).open(fresh)
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert page.evaluate(CONTRAST) == []


def test_the_theme_can_be_chosen_and_is_kept(watch, fresh):
    page = watch(color_scheme="light").open(fresh)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert "dark" in page.locator("#theme").inner_text()
    assert page.evaluate(ground) != before
    page.reload()
    assert page.evaluate(ground) != before


def test_the_first_tab_leads_past_the_navigation(watch, fresh):
    page = watch().open(fresh)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")


def test_prompts_are_read_starred_and_noted_by_keys_alone(watch, fresh):
    page = watch().open(fresh)
    page.locator("#responses").scroll_into_view_if_needed()
    page.locator("#viewer").focus()
    page.keyboard.press("j")
    first = page.evaluate("document.activeElement.closest('tr').dataset.prompt")
    page.keyboard.press("j")
    second = page.evaluate("document.activeElement.closest('tr').dataset.prompt")
    assert first != second
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.closest('tr').dataset.prompt") == first
    page.keyboard.press("s")
    row = page.locator(f"tr[data-prompt='{first}']")
    assert row.locator(".star").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert row.locator(".open").get_attribute("aria-expanded") == "true"
    assert row.locator(".star").get_attribute("aria-pressed") == "true"
    page.keyboard.press("n")
    page.keyboard.type("look")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    assert row.locator(".open").get_attribute("aria-expanded") == "false"
    assert row.locator(".noted").inner_text() == "look"
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('tr').dataset.prompt") == second
    with page.expect_download() as download:
        page.locator("#v-export").click()
    saved = json.loads(download.value.path().read_text())
    assert saved["marks"] == [{"prompt": first, "star": True, "note": "look"}]
    page.keyboard.press("/")
    page.locator("#v-query").focus()
    page.keyboard.type("no such words anywhere")
    assert "0 of" in page.locator("#v-place").inner_text()


def test_a_link_brings_back_prompt_and_filters(watch, fresh):
    page = watch().open(fresh)
    page.locator("#v-start").select_option("base")
    page.locator("#v-family").select_option(index=1)
    page.locator("#v-table .open").nth(2).click()
    prompt = page.evaluate("document.activeElement.closest('tr').dataset.prompt")
    again = watch().open(page.url)
    again.wait_for_selector(f"tr.unfolded[data-prompt='{prompt}']")
    assert again.locator("#v-start").input_value() == "base"
    assert again.locator("#v-family").input_value() == page.locator("#v-family").input_value()


def test_changes_from_the_start_point_are_marked_as_such(watch, fresh):
    page = watch().open(fresh)
    page.locator("#v-diff").check()
    assert page.locator("#v-table ins").count() > 0 and page.locator("#v-table del").count() > 0


def test_the_step_slider_shows_how_answers_change(watch, fresh):
    page = watch().open(fresh)
    slider, place = page.locator("#v-step"), page.locator("#v-place")
    assert page.locator("#v-at").text_content() == "finished models"
    assert place.text_content() == "80 of 80 prompts" and slider.get_attribute("max") == "3"
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "25 % of the training"
    assert place.text_content() == "6 of 80 prompts"
    row = page.locator("tr[data-prompt='test.2']")
    assert "dpo said 2 at step 16" in row.text_content() and "step 16 of 64" in row.text_content()
    row.locator(".open").focus()
    page.keyboard.press("]")
    assert "simpo said 2 at step 32" in row.text_content()
    again = watch().open(fresh + page.evaluate("location.hash"))
    assert again.locator("#v-at").text_content() == "50 % of the training"
    assert "dpo said 2 at step 32" in again.locator("tr[data-prompt='test.2']").text_content()
    again.keyboard.press("]")
    again.keyboard.press("]")
    assert again.locator("#v-at").text_content() == "finished models"
    assert "said 2" not in again.locator("tr[data-prompt='test.2']").text_content()


def test_other_seeds_stand_beside_each_other(watch, tmp_path):
    tables = make(dataclasses.replace(SHAPE, methods=("dpo", "slic_hf"), starts=("base",), seeds=3))
    page = watch().open(write_report(tables, tmp_path / "report.html").as_uri())
    heads = lambda: page.locator("#v-table thead th").all_text_contents()  # noqa: E731
    assert heads() == ["Prompt", "start point", "DPO", "SLiC-HF"]
    page.locator("#v-seed").select_option("1")  # SLiC-HF diverged there
    assert heads() == ["Prompt", "start point", "DPO", "SLiC-HF, seed 0"]
    page.locator("#v-seed").select_option("")
    assert heads() == [
        "Prompt",
        "start point",
        *(f"DPO, seed {k}" for k in range(3)),
        "SLiC-HF, seed 0",
        "SLiC-HF, seed 2",
    ]
    page.locator("#v-columns button", has_text="DPO").click()
    assert heads() == ["Prompt", "start point", "SLiC-HF, seed 0", "SLiC-HF, seed 2"]


def test_a_table_is_sorted_by_any_column_and_back(watch, fresh):
    page = watch().open(fresh)
    table = page.locator("#ranking table").first
    methods = lambda: table.locator("tbody th").evaluate_all("all => all.map(e => e.firstChild.textContent.trim())")  # noqa: E731
    scores = lambda: table.locator("tbody tr td:nth-child(2)").evaluate_all("all => all.map(e => Number(e.dataset.v))")  # noqa: E731
    chosen, column = methods(), table.locator("thead th").nth(1)
    assert len(chosen) >= 3
    column.locator(".sort").focus()
    page.keyboard.press("Enter")
    assert column.get_attribute("aria-sort") == "descending"
    assert scores() == sorted(scores(), reverse=True)
    page.keyboard.press("Enter")
    assert column.get_attribute("aria-sort") == "ascending"
    assert scores() == sorted(scores()) and methods() != chosen
    page.keyboard.press("Enter")
    assert column.get_attribute("aria-sort") is None and methods() == chosen
    table.locator("thead th").first.locator(".sort").click()
    assert methods() == sorted(methods(), key=str.lower)


def test_a_screen_reader_finds_landmarks_headings_in_order_and_names(watch, fresh):
    page = watch().open(fresh)
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert [page.locator(name).count() for name in ("main", "nav", "header", "footer", "h1")] == [1, 1, 1, 1, 1]
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => Number(h.tagName[1]))")
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("html[lang]").count() == 1
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, select, input, textarea, a, summary')]
      .filter(e => e.checkVisibility())
      .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length)))
      .map(e => e.outerHTML.slice(0, 80))""")
    assert unnamed == []


def test_it_prints_with_figures_and_without_controls(watch, fresh):
    page = watch().open(fresh)
    assert not page.locator(".printed").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("#v-controls").is_visible() and not page.locator("#theme").is_visible()
    assert page.locator("#ranking svg").first.is_visible()
    assert page.locator("#v-table tbody tr").evaluate_all("all => all.filter(row => row.checkVisibility()).length") == 3
    assert page.locator(".printed").is_visible()
    assert page.locator("#c-chart canvas").is_visible() and page.locator("#c-metric").is_visible()
    assert not page.locator("#c-copy").is_visible() and not page.locator("#c-how").is_visible()
    sizes = """[...document.querySelectorAll("main :is(td, th):has(> small)")]
      .map((cell) => [cell, cell.querySelector("small")].map((node) => parseFloat(getComputedStyle(node).fontSize)))"""
    found = page.evaluate(sizes)
    assert found and [both for both in found if both[1] >= both[0]] == []
    page.set_viewport_size({"width": 794, "height": 1123})  # A4
    wide = "[...document.querySelectorAll('main table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1)"
    assert page.evaluate(f"{wide}.map(t => t.caption.textContent)") == []
    assert len(page.pdf()) > 50_000


def test_the_dark_theme_prints_as_the_light_one(watch, fresh):
    shades = """() => [...document.querySelectorAll("body, .verdict, .findings li, #answer p, #c-explorer button")]
      .map((node) => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor])"""
    # What of the chart is ink and not a line: pixels that are nearly grey, by their mean lightness.
    chart = """() => {
      const canvas = document.querySelector("#c-chart canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let sum = 0, n = 0;
      for (let k = 0; k < data.length; k += 4) {
        const part = [...data.slice(k, k + 3)];
        if (data[k + 3] > 200 && Math.max(...part) - Math.min(...part) < 40) { sum += part[1]; n += 1; }
      }
      return sum / n;
    }"""
    found = []
    for clicks in (1, 2):  # light, dark
        page = watch().open(fresh)
        for _ in range(clicks):
            page.locator("#theme").click()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_timeout(100)
        ink = page.evaluate(chart)
        page.emulate_media(media="print")
        found.append((page.evaluate(shades), round(ink, 3)))
    assert found[0] == found[1]


def test_without_a_script_the_page_still_says_everything(watch, fresh):
    page = watch(java_script_enabled=False).open(fresh)
    assert page.locator("#answer h2").is_visible() and page.locator("#responses").inner_text().count("reward") > 0


@pytest.mark.slow
def test_the_page_of_a_thousand_cells_is_there_within_five_seconds(watch, tmp_path):
    watched = watch()
    path = write_report(make(LARGE), tmp_path / "report.html")
    assert path.stat().st_size < 10e6
    page = watched.open(path.as_uri())
    page.wait_for_selector("#v-table", timeout=5000)
    taken = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert taken < 5000
    page.locator("#v-query").fill("number 7")
    assert "of" in page.locator("#v-place").inner_text()
    watched.is_clean()


def test_a_view_shows_new_results_only_when_asked(watch, tmp_path):
    study = write_study(tmp_path, make(Shape(methods=("dpo",), starts=("sft",), sizes=(64,), prompts=6)))
    with listening(0) as found:
        server = uvicorn.Server(uvicorn.Config(make_view(study, "secret"), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{found.getsockname()[1]}/secret/"
        watched = watch()
        page = watched.open(address)
        page.wait_for_function("document.getElementById('live-text').textContent.startsWith('Complete')", timeout=60000)
        assert not page.locator("#live-new").is_visible()
        index = study / "index.json"
        index.write_text(index.read_text() + " ")
        page.wait_for_selector("#live-new:visible", timeout=60000)
        with page.expect_navigation(timeout=60000):
            page.locator("#live-new").click()
        watched.requests = [url for url in watched.requests if not url.startswith(address)]
        watched.is_clean()
        server.should_exit = True
        thread.join(10)
