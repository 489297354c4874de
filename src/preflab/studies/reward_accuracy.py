"""`preflab data accuracy`: how often rewards, reward models and implicit rewards put pairs in the right order."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from preflab.core.errors import ConfigError, DataError
from preflab.data.check import check, exclude
from preflab.data.examples import Example
from preflab.data.prompts import prompt_text
from preflab.data.read import read
from preflab.data.tokens import TokenSettings, tokenize
from preflab.evals.reward_models import is_reward_model
from preflab.models.checkpoints import Checkpoint, lone_checkpoint
from preflab.models.devices import default_device
from preflab.models.load import load_tokenizer, quiet
from preflab.scoring.logps import prove, score
from preflab.stats.accuracy import SubsetAccuracy, mean_of_subsets, subset_accuracies
from preflab.stats.intervals import Interval
from preflab.studies.config import SourceConfig
from preflab.studies.names import REWARDS, data_source, model_source
from preflab.studies.scorers import Scorer

_ROLES = ("chosen", "rejected")
_BUDGET = 4096
"""Flat tokens per forward."""

Margins = NDArray[np.float64]
Sides = Sequence[Sequence[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is judged on which pairs.

    Args:
        pairs: preference pairs in any format.
        scorers: rewards by name or file, reward models, or language models.
        reference: the start point of the language models' implicit rewards, or None.
        split: of a folder or a Hub data set.
        columns: our column name to the file's.
        exclude: row problems to leave out.
        max_tokens: of prompt and response together; longer responses are cut.
    """

    pairs: str
    scorers: tuple[str, ...]
    reference: str | None
    split: str
    columns: Mapping[str, str]
    exclude: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often one score put pairs in the right order.

    Args:
        scorer: who, and by which score.
        subsets: by subset; the data's families.
        mean: of the subsets, each with the same weight.
    """

    scorer: str
    subsets: Sequence[SubsetAccuracy]
    mean: Interval


def reward_accuracies(request: Request, *, say: Callable[[str], None]) -> list[Accuracy]:
    """Score both responses of every pair and count the right orders.

    A language model is judged by its implicit reward, the log-ratio to the reference summed over the response (DPO's),
    by the same per token (LN-DPO's), and, without a reference, by its log-prob per token (SimPO's). With a reference
    it gets all three.

    Raises:
        ConfigError: a scorer cannot be had.
        DataError: the data hold no pairs, or need mending.
    """
    quiet()
    source = data_source(SourceConfig(path=request.pairs, split=request.split))
    dataset = read(source.path, split=source.split, columns=dict(request.columns))
    if dataset.kind != "paired":
        raise DataError(f"{request.pairs}: needs pairs, a chosen and a rejected response; these are {dataset.kind}.")
    reference = None if request.reference is None else _LanguageModel.named(request.reference, request.max_tokens)
    models = {name: _LanguageModel.named(name, request.max_tokens) for name in request.scorers if not _is_reward(name)}
    # Prompts that a language model cannot take are problems of rows, so that `exclude` can name them.
    first = next(iter(models.values()), None)
    problems = check(dataset) if first is None else check(dataset, tokenizer=first.tokenizer, tokens=first.settings)
    dataset, _ = exclude(dataset, problems, request.exclude, study=False)
    examples = dataset.examples
    found: list[Accuracy] = []
    for name in request.scorers:
        say(f"{name}: scoring {len(examples)} pairs")
        for title, margins in _margins(name, models.get(name), examples, reference, request).items():
            by_subset = subset_accuracies(
                margins, [e.family or "all" for e in examples], [prompt_text(e.prompt) for e in examples]
            )
            found.append(Accuracy(title, by_subset, mean_of_subsets(by_subset)))
    return found


def _margins(
    name: str,
    model: "_LanguageModel | None",
    examples: Sequence[Example],
    reference: "_LanguageModel | None",
    request: Request,
) -> dict[str, Margins]:
    """Return the margins of all pairs under every score that a scorer gives."""
    if model is None:
        scorer = Scorer(name, "SCORER", default_device(), source=request.pairs)
        chosen, rejected = (
            [float(found["reward"]) for found in scorer.scores([(e, str(getattr(e, role))) for e in examples])]
            for role in _ROLES
        )
        return {name: np.array(chosen) - np.array(rejected)}
    own = model.logps(examples)
    margins = {f"{name}, log-prob per token": _gap(own, per_token=True)}
    if reference is not None:
        before = reference.logps(examples)
        if [[len(x) for x in side] for side in own] != [[len(x) for x in side] for side in before]:
            raise ConfigError(f"{name}: its tokenizer is not {request.reference}'s, so no log-ratio can be taken.")
        ratios = [[x - y for x, y in zip(*sides, strict=True)] for sides in zip(own, before, strict=True)]
        margins = {
            f"{name}, implicit reward": _gap(ratios, per_token=False),
            f"{name}, implicit reward per token": _gap(ratios, per_token=True),
            **margins,
        }
    return margins


def _is_reward(name: str) -> bool:
    return name in REWARDS or ".py" in name or is_reward_model(name)


def _gap(sides: Sides, *, per_token: bool) -> Margins:
    chosen, rejected = (
        np.array([x.mean(dtype=np.float64) if per_token else x.sum(dtype=np.float64) for x in side]) for side in sides
    )
    gaps: Margins = chosen - rejected
    return gaps


@dataclass(frozen=True)
class _LanguageModel:
    """A language model and how it sees pairs."""

    checkpoint: Checkpoint
    settings: TokenSettings
    _known: dict[int, Sides] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str, max_tokens: int) -> "_LanguageModel":
        checkpoint = lone_checkpoint(model_source(name))
        return cls(checkpoint, TokenSettings("auto", max_tokens, max(1, 3 * max_tokens // 4)))

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its own."""
        return load_tokenizer(self.checkpoint.tokenizer_folder)

    def logps(self, examples: Sequence[Example]) -> Sides:
        """Return the token log-probs of the chosen and of the rejected responses, nats; the same pairs once."""
        if id(examples) not in self._known:
            self._known[id(examples)] = self._score(examples)
        return self._known[id(examples)]

    def _score(self, examples: Sequence[Example]) -> Sides:
        rows = tokenize(examples, self.tokenizer, self.settings).rows
        model = self.checkpoint.load(dtype="float32", device=default_device()).requires_grad_(False)
        prove(model)
        found = score(model, rows, _ROLES, budget=_BUDGET)
        return [[values for values in found[role] if values is not None] for role in _ROLES]
