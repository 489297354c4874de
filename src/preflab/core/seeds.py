"""Randomness without hidden state: every stream is named, and every order is a function of (seed, position)."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for a named stream, so that streams of one study never share numbers.

    Args:
        seed: the study's or the cell's seed.
        names: what the stream is for, such as `("order", epoch)`.
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def permutation(n: int, seed: int, *names: str | int) -> NDArray[np.int64]:
    """Return a permutation of `range(n)`, int64 `[n]`, that depends on nothing but its arguments."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *names))).permutation(n)


def uniform(n: int, seed: int, *names: str | int) -> NDArray[np.float64]:
    """Return uniform numbers from (0, 1), float64 `[n]`, that depend on nothing but the arguments."""
    drawn = np.random.Generator(np.random.Philox(key=derive(seed, *names))).random(n)
    return np.clip(drawn, np.finfo(np.float64).tiny, None)
