"""`preflab view`: the report in a browser, live while the study runs."""

import os
import secrets
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def view(
    study: Path,
    *,
    port: Annotated[int, Parameter(help="Port on this machine; default: a free one.")] = 0,
    open_: Annotated[bool, Parameter(name="--open", help="Open it in the browser.")] = True,
) -> int:
    """Show the report of a study in the browser, live while the study runs; Ctrl-C ends it.

    Only this machine is served, and only who has the whole address, which carries a secret. To read it from elsewhere:
    ssh -L 8765:127.0.0.1:8765 MACHINE, with --port 8765 there.

    Examples:
        preflab view runs/my-study
        preflab view runs/my-study --port 8765 --no-open

    Args:
        study: folder of the study, or its study file.
        port: port on this machine; 0 takes a free one.
        open_: open it in the browser.
    """
    import uvicorn

    from preflab.report.view import HOST, listening, make_view
    from preflab.studies.study_file import study_folder

    token = secrets.token_urlsafe(24)
    app = make_view(study_folder(study), token)
    # The report reads and draws in Python: no request waits long for a strip of text, so one process is enough.
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    with listening(port) as found:
        url = f"http://{HOST}:{found.getsockname()[1]}/{token}/"
        print(url, flush=True)
        print("Ctrl-C ends it; the study runs on.", file=sys.stderr)
        if open_ and _has_desktop():
            webbrowser.open(url)
        try:
            server.run(sockets=[found])
        except KeyboardInterrupt:
            return 0
    return 0


def _has_desktop() -> bool:
    """Return whether opening a browser shows one: not through ssh, not without a display."""
    if "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
