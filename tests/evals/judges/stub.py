"""A chat-completions server on the loopback interface that does what a test tells it."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What the server does with one request; `hang_s` waits first, `cut` ends the connection amid the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    cut: bool = False


def says(text, *, finish="stop", first_token=None, usage=(10, 5), refusal=None) -> Answer:
    choice = {"message": {"role": "assistant", "content": text, "refusal": refusal}, "finish_reason": finish}
    if first_token is not None:
        top = [{"token": token, "logprob": logp} for token, logp in first_token.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": top}]}
    document = {"model": "stub-1", "choices": [choice]}
    if usage:
        document["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Answer(body=json.dumps(document).encode())


class Stub:
    """`behave` maps (request body, number of the request from 0) to an `Answer`; `seen` holds what arrived."""

    def __init__(self, behave: Callable[[dict, int], Answer]) -> None:
        self.behave = behave
        self.seen: list[dict] = []
        self.keys: list[str | None] = []
        self.most_open = 0
        self._open = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with stub._lock:
                    number = len(stub.seen)
                    stub.seen.append({"path": self.path, **body})
                    stub.keys.append(self.headers.get("authorization"))
                    stub._open += 1
                    stub.most_open = max(stub.most_open, stub._open)
                try:
                    with contextlib.suppress(ConnectionError):  # a client that lost patience
                        self.reply(stub.behave(body, number))
                finally:
                    with stub._lock:
                        stub._open -= 1

            def reply(self, answer):
                time.sleep(answer.hang_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body) + 100 * answer.cut))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = True

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def shown_to(body: dict) -> str:
    """The user's message of a request."""
    return body["messages"][-1]["content"]
