"""Asking a judge many questions: from the cache where they were asked before, else from the server, several at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from preflab.core.errors import ConfigError
from preflab.evals.judges.budget import Limits, Tokens
from preflab.evals.judges.client import ChatClient, Server
from preflab.evals.judges.completions import ChatRequest, Reply, Unanswered
from preflab.evals.judges.replies import ReplyCache


@dataclass(frozen=True, slots=True)
class Judge:
    """A server, the replies it gave before, and how many calls may be open at once."""

    client: ChatClient
    cache: ReplyCache
    concurrency: int = 4

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError(f"judge concurrency: must be at least 1; got {self.concurrency}.")

    def ask_all(
        self, requests: Sequence[ChatRequest], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Reply | Unanswered]:
        """Return what the judge replied to each request, in order; equal requests are asked once.

        Calls without reply are not kept: the next run asks again.

        Args:
            requests: what to ask.
            progress: called with the calls done and wanted, those from the cache left out.

        Raises:
            ConfigError, BudgetReached, RunError: as `ChatClient.ask`; replies that came before are in the cache.
        """
        keys = [self.cache.key(self.client.server, request) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        found: dict[str, Reply | Unanswered] = {
            key: reply for key in wanted if (reply := self.cache.get(key)) is not None
        }
        missing = {key: request for key, request in wanted.items() if key not in found}

        def ask(key: str, request: ChatRequest) -> Reply | Unanswered:
            answer = self.client.ask(request)
            if isinstance(answer, Reply):
                self.cache.put(key, answer)
            return answer

        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = {pool.submit(ask, key, request): key for key, request in missing.items()}
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    found[futures[future]] = future.result()
                    progress(done, len(missing))
            except BaseException:
                self.client.stop()  # calls in flight end and are kept; the others do not start
                raise
        return [found[key] for key in keys]


def preview(
    requests: Sequence[ChatRequest], server: Server, cache: ReplyCache, limits: Limits, *, examples: int = 3
) -> dict[str, Any]:
    """Return what would leave this machine, without sending anything.

    Args:
        requests: everything that a run would ask.
        server: whom it would ask.
        cache: replies that are there already; these requests are not sent.
        limits: spend caps and prices.
        examples: whole messages to show, spread over the requests that would be sent.

    Returns:
        JSON-like: host, model, whether a key is sent, requests wanted, cached and to send, estimated prompt tokens, the
        most completion tokens and cost (None without prices), and example messages.
    """
    keyed = {cache.key(server, request): request for request in requests}
    sent = [request for key, request in keyed.items() if cache.get(key) is None]
    tokens = sum((request.estimate for request in sent), Tokens(0, 0))
    step = max(1, len(sent) // examples) if examples else 1
    return {
        "host": server.parsed.host,
        "url": f"{server.url}/chat/completions",
        "stays_on_this_machine": server.is_loopback,
        "model": server.model,
        "key_from": server.key_env,
        "requests": {"wanted": len(keyed), "cached": len(keyed) - len(sent), "to_send": len(sent)},
        "estimated_prompt_tokens": tokens.prompt,
        "most_completion_tokens": tokens.completion,
        "most_cost": limits.price(tokens),
        "examples": [request.body(server.model) for request in sent[::step][:examples]],
    }
