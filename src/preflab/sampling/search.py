"""Monte Carlo tree search over the steps of a response: answers that share their beginnings, scored by a verifier.

A node is the beginning of a response. A simulation goes down by UCT, samples one more step there and the rest of the
response behind it (one call of the sampler), scores the whole and adds the score to every node on the way. The trees
of several prompts grow side by side, so that a call samples for all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from preflab.core.errors import ConfigError
from preflab.sampling.generate import Response
from preflab.sampling.samplers import Sampler

Ids = NDArray[np.int64]
Score = Callable[[Sequence[tuple[int, Response]]], Sequence[float]]
"""`score([(prompt's index, response), ...])`: higher is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a tree grows.

    Args:
        simulations: whole answers sampled for each prompt, at most.
        width: times that the next step behind a node is sampled; equal steps are one child.
        step_tokens: tokens of a step that no line break ends before.
        exploration: UCT's constant, in units of the score: larger looks longer at what scored less.
        max_new_tokens: longest response.

    Raises:
        ConfigError: a value that makes no sense.
    """

    simulations: int
    width: int
    step_tokens: int
    exploration: float
    max_new_tokens: int

    def __post_init__(self) -> None:
        least = {"simulations": 2, "width": 2, "step_tokens": 1, "max_new_tokens": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least {low}; got {getattr(self, name)}.")
        if not 0 <= self.exploration < math.inf:
            raise ConfigError(f"--exploration: must be in [0, inf); got {self.exploration}.")


@dataclass(frozen=True, slots=True)
class Found:
    """An answer of a tree.

    Args:
        response: the whole of it.
        score: what the verifier gave.
        path: numbers of the nodes that it passes, from the first step on; two answers with a common path of n nodes
            share those steps.
    """

    response: Response
    score: float
    path: tuple[int, ...]


@dataclass(slots=True)
class _Node:
    number: int
    tokens: Ids
    ended: bool
    parent: "_Node | None"
    children: list["_Node"] = field(default_factory=list)
    sampled: int = 0
    visits: int = 0
    total: float = 0.0

    def open(self, width: int) -> bool:
        """Whether anything is left to sample below."""
        return not self.ended and (self.sampled < width or any(child.open(width) for child in self.children))

    @property
    def path(self) -> tuple[int, ...]:
        return () if self.parent is None else (*self.parent.path, self.number)


def search(
    prompts: Sequence[Ids],
    keys: Sequence[str],
    sampler: Sampler,
    score: Score,
    first_step: Callable[[Ids], int],
    settings: SearchSettings,
) -> list[list[Found]]:
    """Grow a tree for each prompt and return the answers it came by, in order.

    Args:
        prompts: token ids, int64 `[tokens]` each.
        keys: what each prompt's random streams are named by.
        sampler: samples to the end of a response.
        score: the verifier.
        first_step: how many tokens of a continuation are its first step, at least 1.
        settings: size of the trees.
    """
    roots = [_Node(0, np.zeros(0, dtype=np.int64), False, None) for _ in prompts]
    counts = [1] * len(prompts)
    answers: list[list[Found]] = [[] for _ in prompts]
    for simulation in range(settings.simulations):
        # A tree in which every leaf has ended has nothing more to say.
        growing = [i for i, root in enumerate(roots) if root.open(settings.width)]
        if not growing:
            break
        nodes = [_select(roots[i], settings) for i in growing]
        left = [settings.max_new_tokens - len(node.tokens) for node in nodes]
        drawn = sampler(
            [np.concatenate([prompts[i], node.tokens]) for i, node in zip(growing, nodes, strict=True)],
            [f"{keys[i]}/search/{simulation}" for i in growing],
            max(left),
        )
        leaves, whole = [], []
        for i, node, response, n in zip(growing, nodes, drawn, left, strict=True):
            rest = response.tokens[:n]
            truncated = response.truncated or len(response.tokens) > n
            step = rest[: first_step(rest)]
            leaf = _child(node, step, counts[i], ended=len(step) == len(rest))
            counts[i] += leaf.number == counts[i]
            leaves.append(leaf)
            whole.append(Response(np.concatenate([node.tokens, rest]), truncated))
        scores = score(list(zip(growing, whole, strict=True)))
        for i, leaf, response, value in zip(growing, leaves, whole, scores, strict=True):
            answers[i].append(Found(response, float(value), leaf.path))
            _back_up(leaf, float(value))
    return answers


def step_length(tokens: Ids, pieces: Callable[[int], str], step_tokens: int) -> int:
    """Return how many tokens are the first step: up to and with the first line break behind some text.

    Args:
        tokens: a continuation, int64 `[tokens]`.
        pieces: text of a token.
        step_tokens: most tokens of a step.
    """
    spoken = False
    for n, token in enumerate(tokens[:step_tokens], start=1):
        piece = pieces(int(token))
        spoken = spoken or bool(piece.strip())
        if spoken and "\n" in piece:
            return n
    return min(len(tokens), step_tokens)


def _select(root: _Node, settings: SearchSettings) -> _Node:
    """Go down to a node whose next step has not been sampled often enough; ended subtrees are not entered again."""
    node = root
    while node.sampled >= settings.width:
        parent = node
        node = max(
            (child for child in parent.children if child.open(settings.width)),
            key=lambda child: (_uct(child, parent.visits, settings.exploration), -child.number),
        )
    node.sampled += 1
    return node


def _uct(child: _Node, visits: int, exploration: float) -> float:
    """Return the mean score and how little it is known; Kocsis and Szepesvari, 2006."""
    return child.total / child.visits + exploration * math.sqrt(math.log(visits) / child.visits)


def _child(node: _Node, step: Ids, number: int, *, ended: bool) -> _Node:
    tokens = np.concatenate([node.tokens, step])
    for child in node.children:
        if np.array_equal(child.tokens, tokens):
            return child
    node.children.append(_Node(number, tokens, ended, node))
    return node.children[-1]


def _back_up(leaf: _Node, value: float) -> None:
    node: _Node | None = leaf
    while node is not None:
        node.visits += 1
        node.total += value
        node = node.parent
