"""A headless Chromium, and pages that record what they should not do. Skipped where there is no Chromium."""

import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (in the dev group)")
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"needs one of {', '.join(_NAMES)}; Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page with what it did: `dialogs`, `requests` beside its own address, `complaints` of its console."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.dialogs, self.requests, self.complaints = [], [], []
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, address):
        """Open an address; the request for it is not counted."""
        self.page.goto(address)
        self.requests = [url for url in self.requests if url.partition("#")[0] != address.partition("#")[0]]
        return self.page

    def is_clean(self):
        """Assert that nothing ran, nothing was sent and nobody complained."""
        assert self.dialogs == []
        assert [url for url in self.requests if not url.startswith(("data:", "blob:"))] == []
        assert self.complaints == []
        assert self.page.evaluate("window.owned === undefined")


@pytest.fixture
def watch(browser):
    """Open watched pages: `watch(width=360, color_scheme="dark")`."""
    opened = []

    def start(*, width=1280, height=900, **options):
        opened.append(Watched(browser, viewport={"width": width, "height": height}, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.context.close()
