"""A small client for OpenAI-compatible chat completions: vLLM, Ollama, llama.cpp and cloud servers.

The key comes from a named environment variable, goes into the `Authorization` header and nowhere else: texts from the
server are searched for it before anything else sees them. Redirects are not followed.
"""

import ipaddress
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import httpx2

from preflab.core.errors import ConfigError, RunError
from preflab.evals.judges.budget import Budget, Limits, Tokens
from preflab.evals.judges.completions import ChatRequest, Reply, Unanswered, error_text, parse_reply

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_MOST_BYTES = 16 * 2**20
_SHOWN = 200
"""Characters of a server's error text that are shown."""
_IN_A_ROW = 8
"""Failed calls in a row after which a run stops: the server is gone, or refuses all of this kind."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a judge is, and how patiently it is asked.

    Args:
        url: base address, such as `http://127.0.0.1:8000/v1`; `/chat/completions` is appended.
        model: the judge's name on that server.
        key_env: environment variable that holds the key; None sends none.
        timeout_s: longest time of one call, seconds.
        retries: repetitions of a call that failed for a passing reason.

    Raises:
        ConfigError: an address that is not plain http or https, or one that would send the key unencrypted.
    """

    url: str
    model: str
    key_env: str | None = None
    timeout_s: float = 120.0
    retries: int = 5
    parsed: httpx2.URL = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            url = httpx2.URL(self.url)
        except httpx2.InvalidURL:
            url = httpx2.URL("")
        # The address is stored and printed, so nothing secret may be in it; it is not repeated here either.
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
            raise ConfigError(
                "judge server: must be http(s)://HOST[:PORT]/PATH without user, query or fragment, such as "
                "http://127.0.0.1:8000/v1; a key belongs into an environment variable."
            )
        if self.timeout_s <= 0 or self.retries < 0:
            raise ConfigError(f"judge server: needs timeout_s > 0, retries >= 0; got {self.timeout_s}, {self.retries}.")
        if self.key_env is not None and url.scheme == "http" and not _is_loopback(url.host):
            raise ConfigError(f"judge server {url.host}: plain http would send the key unencrypted; use https.")
        object.__setattr__(self, "url", self.url.rstrip("/"))
        object.__setattr__(self, "parsed", url)

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine."""
        return _is_loopback(self.parsed.host)

    def key(self) -> str:
        """Return the key, or an empty text where none is named.

        Raises:
            ConfigError: the variable is not set, or holds what no header can carry.
        """
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(
                f"judge server: the environment variable {self.key_env} must hold the key, in visible ASCII characters."
            )
        return key


class ChatClient:
    """Asks a server, one call at a time per thread; close it after use.

    Args:
        server: whom to ask.
        budget: what may be spent; every attempt is counted.
        sleep: waits so many seconds; by default until `stop` at most.
        chance: draws from [0, 1) for the jitter of the waits.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        server: Server,
        budget: Budget | None = None,
        *,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self.budget = budget or Budget(Limits())
        self._key = server.key()
        self._stopped = threading.Event()
        self._sleep, self._chance, self._clock = sleep or self._stopped.wait, chance, clock
        self._in_a_row = 0
        self._lock = threading.Lock()
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=server.timeout_s,
            follow_redirects=False,
            trust_env=not server.is_loopback,  # a proxy of the environment is for other machines
        )

    def __enter__(self) -> "ChatClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def stop(self) -> None:
        """Make no more calls: what is asked from now on, or waits to be asked again, stays unanswered."""
        self._stopped.set()

    def ask(self, request: ChatRequest) -> Reply | Unanswered:
        """Ask, and ask again after passing failures: timeouts, lost connections, 408, 429, 5xx and broken bodies.

        The wait doubles from one second to a minute, at least half of it by chance; `Retry-After` is honoured up to a
        minute.

        Raises:
            ConfigError: the server refuses the key, the address or the model.
            BudgetReached: the call could exceed a spend cap.
            RunError: eight calls in a row failed.
        """
        for attempt in range(self.server.retries + 1):
            if self._stopped.is_set():
                return Unanswered("the run was stopped")
            estimate = request.estimate
            self.budget.reserve(estimate)
            try:
                reply = self._call(request)
            except _Failed as failed:
                if not failed.may_be_billed:
                    self.budget.settle(estimate, Tokens(0, 0))
                if not failed.passing or attempt == self.server.retries:
                    return self._give_up(failed)
                self._sleep(self._wait(attempt, failed.retry_after_s))
            else:
                self.budget.settle(estimate, reply.tokens or estimate)
                with self._lock:
                    self._in_a_row = 0
                return reply
        raise AssertionError("the loop returns or raises")

    def _give_up(self, failed: "_Failed") -> Unanswered:
        with self._lock:
            self._in_a_row += 1
            stop = self._in_a_row >= _IN_A_ROW
        if stop:
            raise RunError(
                f"{self._where()}: {_IN_A_ROW} calls in a row failed, the last with {failed.cause}; "
                "what was judged is kept, so run the same command again when the server answers."
            )
        return Unanswered(failed.cause)

    def _wait(self, attempt: int, retry_after_s: float | None) -> float:
        wait = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S) * (0.5 + self._chance() / 2)
        return min(max(wait, retry_after_s or 0.0), _LONGEST_WAIT_S)

    def _call(self, request: ChatRequest) -> Reply:
        deadline = self._clock() + self.server.timeout_s
        body = bytearray()
        try:
            with self._http.stream(
                "POST", f"{self.server.url}/chat/completions", json=request.body(self.server.model)
            ) as response:
                for part in response.iter_bytes():
                    body += part
                    if self._clock() > deadline:  # the library limits the time between bytes only
                        raise _Failed("a timeout", passing=True, may_be_billed=True)
                    if len(body) > _MOST_BYTES:
                        raise _Failed("a reply without end", passing=False, may_be_billed=True)
        except httpx2.ConnectError as error:
            raise _Failed(f"no connection ({self._clean(str(error))})", passing=True) from None
        except httpx2.TimeoutException:
            raise _Failed("a timeout", passing=True, may_be_billed=True) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            text = f"a broken connection ({type(error).__name__})"
            raise _Failed(text, passing=True, may_be_billed=True) from None
        if response.status_code != 200:
            raise self._refused(response, bytes(body))
        try:
            return parse_reply(bytes(body), self._sound)
        except ValueError:
            raise _Failed("a reply that is no chat completion in JSON", passing=True, may_be_billed=True) from None

    def _refused(self, response: httpx2.Response, body: bytes) -> "_Failed":
        """Return what a status other than 200 means, or raise where no other request would fare better.

        Raises:
            ConfigError: a redirect, or 401, 403, 404, 405.
        """
        status = response.status_code
        said = self._clean(error_text(body))
        text = f"status {status}" + (f" ({said})" if said else "")
        if status < 400:
            to = self._clean(response.headers.get("location", ""))
            raise ConfigError(f"{self._where()}: redirects are not followed ({status} to {to!r}); give that address.")
        if status in (401, 403):
            key = f"the key in {self.server.key_env}" if self.server.key_env else "a request without key (--key-env)"
            raise ConfigError(f"{self._where()}: refuses {key}: {text}.")
        if status in (404, 405):
            raise ConfigError(
                f"{self._where()}: {text}; check the address, which often ends in /v1, and the model's name "
                f"{self.server.model!r}."
            )
        passing = status in (408, 409, 429) or status >= 500
        return _Failed(text, passing=passing, retry_after_s=_seconds(response.headers.get("retry-after", "")))

    def _where(self) -> str:
        return f"judge server {self.server.parsed.host}"

    def _sound(self, text: str) -> str:
        """Return a server's text without the key, and without halves of characters, which no file could hold."""
        text = text.encode(errors="replace").decode()
        return text.replace(self._key, "***") if self._key else text

    def _clean(self, text: str) -> str:
        return _CONTROL.sub(" ", self._sound(text)).strip()[:_SHOWN]


class _Failed(Exception):
    """A call without reply."""

    def __init__(
        self, cause: str, *, passing: bool, may_be_billed: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.passing = passing
        self.may_be_billed = may_be_billed
        self.retry_after_s = retry_after_s


def _seconds(retry_after: str) -> float | None:
    """Return the seconds of a `Retry-After` header, which is a number or a date (RFC 9110, section 10.2.3)."""
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
