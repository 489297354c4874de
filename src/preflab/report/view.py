"""The report of a study served on this machine: the same page, and a strip that says how far the study is.

Whoever holds the address may read, nobody may write: a secret in the path (a cookie would be shared by all ports of
this machine), names of this machine only in Host (a foreign name that resolves to 127.0.0.1 is turned away), no foreign
Origin, GET and HEAD alone.
"""

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preflab.core.errors import ConfigError, PreflabError
from preflab.report.index import INDEX, load_index
from preflab.report.load import JUDGED, load_tables
from preflab.report.page import render
from preflab.report.status import PLAN, study_status
from preflab.report.tables import StudyTables
from preflab.store.documents import is_there

HOST = "127.0.0.1"
"""The one address a view listens on; other machines come through a tunnel, which brings its own access control."""
_NAMES = [HOST, "localhost"]
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    # The page's own policy is a meta element, which cannot say who may frame it.
    "content-security-policy": "frame-ancestors 'none'",
}


def make_view(study: Path, token: str) -> Starlette:
    """Return the application that shows a study.

    Args:
        study: folder of the study.
        token: the secret without which nothing is shown; the page is at `/TOKEN/`.

    Raises:
        ConfigError: the folder holds no study.
        StoreError: its index or its plan cannot be read.
    """
    if is_there(study / INDEX):
        load_index(study)
    else:
        study_status(study)
    shown = _Shown(study)

    def page(request: Request) -> Response:
        return HTMLResponse(shown.page())

    def status(request: Request) -> Response:
        return JSONResponse({"version": shown.version(), "shown": shown.rendered, **study_status(study)})

    async def answer(request: Request) -> Response:
        if not secrets.compare_digest(request.path_params["token"].encode(), token.encode()):
            return PlainTextResponse("Not found", 404)
        wanted = {"": page, "status": status}.get(request.path_params["what"])
        if wanted is None:
            return PlainTextResponse("Not found", 404)
        try:
            return await run_in_threadpool(wanted, request)
        except (PreflabError, OSError) as error:
            return PlainTextResponse(f"Nothing can be shown now: {error}", 503)

    guards = [Middleware(_Guard), Middleware(TrustedHostMiddleware, allowed_hosts=_NAMES, www_redirect=False)]
    app = Starlette(routes=[Route("/{token}/{what:path}", answer)], middleware=guards)
    app.router.redirect_slashes = False
    return app


class _Shown:
    """The rendered page of a study, made again only when the study has new results and somebody asks for them."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.rendered = ""
        self._text = ""
        self._lock = threading.Lock()

    def version(self) -> str:
        """Return what changes whenever the page would."""
        return " ".join(_stamp(self.study / name) for name in (INDEX, f"{JUDGED}/{INDEX}"))

    def page(self) -> str:
        """Return the page of the current results; of requests that come together one renders."""
        with self._lock:
            version = self.version()
            if version != self.rendered:
                self._text = render(_tables(self.study), live=True)
                self.rendered = version
            return self._text


def _stamp(path: Path) -> str:
    with contextlib.suppress(OSError):
        found = path.stat()
        return f"{found.st_mtime_ns}-{found.st_size}"
    return "-"


def _tables(study: Path) -> StudyTables:
    """Return the tables of a study; of one that has written none yet, empty ones."""
    if (study / INDEX).exists() or not (study / PLAN).exists():
        return load_tables(study)
    return StudyTables(study={"name": study_status(study)["study"]})


class _Guard:
    """Turns foreign origins away and puts the headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host', '')}":
            await PlainTextResponse("Foreign origin", 403)(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Open a socket on loopback.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken or not allowed.
    """
    try:
        found = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port}: {error}; name another port, or leave it away to get a free one.") from error
    with found:
        yield found
