"""What judging may cost at most: requests, tokens and money, reserved before every call and corrected after it."""

import math
import threading
from dataclasses import dataclass

from preflab.core.errors import ConfigError, RunError

_BYTES_PER_TOKEN = 3
_TOKENS_PER_MESSAGE = 8


class BudgetReached(RunError):
    """The next call would exceed a limit; every reply so far is in the cache, so a higher limit continues."""

    exit_code = 5


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a call, or of many.

    Args:
        prompt: tokens sent.
        completion: tokens received.
    """

    prompt: int
    completion: int

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


def estimated_prompt_tokens(texts: list[str]) -> int:
    """Return about how many tokens the messages of a request are: UTF-8 bytes / 3, and 8 for each message's frame.

    English has about four bytes in a token, most other scripts three or more, so this is usually too many; the server's
    own count replaces it after the reply.
    """
    return sum(math.ceil(len(text.encode()) / _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Spend caps of one run; None is no limit.

    Args:
        requests: HTTP requests, repeated ones included.
        tokens: prompt and completion tokens together.
        cost: money, in the currency of the prices.
        prompt_price: price of a million prompt tokens.
        completion_price: price of a million completion tokens.

    Raises:
        ConfigError: a limit or price that is negative or not finite, or a cost limit without prices.
    """

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    prompt_price: float | None = None
    completion_price: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "cost", "prompt_price", "completion_price"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"spend cap {name}: must be a number in [0, inf); got {value}.")
        if (self.prompt_price is None) != (self.completion_price is None):
            raise ConfigError("spend cap: give the prices of prompt and completion tokens together, or neither.")
        if self.cost is not None and self.prompt_price is None:
            raise ConfigError("spend cap cost: needs prices; give those of a million prompt and completion tokens.")

    def price(self, tokens: Tokens) -> float | None:
        """Return what tokens cost, or None without prices."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        return (tokens.prompt * self.prompt_price + tokens.completion * self.completion_price) / 1e6


class Budget:
    """What was spent in a run; safe to use from several threads.

    A call reserves its estimated prompt and the whole length that its reply may have. `settle` replaces that by what
    the server counted, so limits are exceeded by no more than the calls in flight were under-estimated.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = 0
        self.tokens = Tokens(0, 0)
        self._lock = threading.Lock()

    @property
    def cost(self) -> float | None:
        """What was spent or is reserved, or None without prices."""
        return self.limits.price(self.tokens)

    def reserve(self, estimate: Tokens) -> None:
        """Count a call before it is made.

        Raises:
            BudgetReached: it would exceed a limit.
        """
        with self._lock:
            tokens = self.tokens + estimate
            wanted = {
                "requests": self.requests + 1,
                "tokens": tokens.prompt + tokens.completion,
                "cost": self.limits.price(tokens),
            }
            for name, value in wanted.items():
                limit = getattr(self.limits, name)
                if limit is not None and value is not None and value > limit:
                    raise BudgetReached(
                        f"spend cap: the next call could bring {name} to {value:g}, above the limit of {limit:g}; "
                        f"what was judged is kept, so raise the limit and run the same command again."
                    )
            self.requests, self.tokens = self.requests + 1, tokens

    def settle(self, estimate: Tokens, used: Tokens) -> None:
        """Replace a reservation by what the call used; `Tokens(0, 0)` for a call that the server turned away."""
        with self._lock:
            self.tokens = self.tokens - estimate + used
