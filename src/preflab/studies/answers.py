"""Candidate answers for pairs: sampled, searched and scored once, in small artefacts that every later command finds."""

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError
from preflab.core.ids import canonical_json, digest_of
from preflab.data.examples import Example, TokenRow
from preflab.data.render import Template
from preflab.data.tokens import TokenSettings, prompt_ids, response_text
from preflab.evals.probes import similarities
from preflab.models.checkpoints import Checkpoint, lone_checkpoint
from preflab.models.devices import default_device, float32_here
from preflab.models.load import context_length, end_token_ids, load_tokenizer, tokenizer_digest
from preflab.sampling.generate import Response
from preflab.sampling.samplers import Engine, Sampler, transformers_sampler, vllm_sampler
from preflab.sampling.search import SearchSettings, search, step_length
from preflab.scoring.logps import prove
from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.bench import write_table
from preflab.studies.names import model_source
from preflab.studies.prepare import rows_digest
from preflab.studies.scorers import Scorer, Scores

_VERSION = 1
_LONGEST = 1 << 20
"""Tokens of a prompt and its answer where a model sets no limit."""
_BUDGET = 2048
"""Flat tokens per forward."""
_SAY_EVERY_S = 10.0

Say = Callable[[str], None]
Ids = NDArray[np.int64]


class Candidate(NamedTuple):
    """A response that may become a side of a pair.

    Args:
        origin: `model`, `data` or `other`.
        text: the response.
        truncated: whether it was cut before it ended.
        path: its nodes in the search tree.
        scores: what the reward gave; None before it was asked.
    """

    origin: str
    text: str
    truncated: bool = False
    path: tuple[int, ...] = ()
    scores: Scores | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How answers are sampled; all of it but the engine's speed changes them.

    Args:
        samples: answers to each prompt.
        max_new_tokens: of an answer.
        batch_size: prompts decoded together, and committed together.
        seed: of the random streams.
        engine: who samples.
        template: how prompts become text, as `data.template` of a study.
    """

    samples: int
    max_new_tokens: int
    batch_size: int
    seed: int
    engine: Engine
    template: Template


def store() -> Store:
    """Return where candidate answers lie, outside of every study: curations of the same prompts share them."""
    return Store(cache_root() / "answers")


@dataclass(frozen=True)
class Answerer:
    """A model that answers prompts; its weights are loaded when the first answer is missing.

    Args:
        name: as the user gave it.
        checkpoint: where it is.
        tokenizer: its own.
        settings: how it samples.
    """

    name: str
    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerBase
    settings: Settings

    @classmethod
    def named(cls, name: str, settings: Settings) -> "Answerer":
        """Find a model by folder, Hub id or pocket name, an adapter with its base.

        Raises:
            ConfigError: there is none, or its context is too short for such answers.
        """
        checkpoint = lone_checkpoint(model_source(name))
        found = cls(name, checkpoint, load_tokenizer(checkpoint.start), settings)
        assert found.limits
        return found

    @functools.cached_property
    def limits(self) -> TokenSettings:
        """Longest rows, and longest prompts that leave room for an answer."""
        context = int(min(context_length(self.checkpoint.start), _LONGEST))
        room = context - self.settings.max_new_tokens + 1
        if room < 2:
            raise ConfigError(
                f"{self.name}: its context has {context} positions, which leaves no room for a prompt; lower "
                f"--max-new-tokens ({self.settings.max_new_tokens})."
            )
        return TokenSettings(self.settings.template, context, room)

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """What identifies the model."""
        return {"weights": self.checkpoint.digest(), "tokenizer": tokenizer_digest(self.tokenizer)}

    @functools.cached_property
    def model(self) -> PreTrainedModel:
        """The loaded model, in float32, without gradients."""
        model = self.checkpoint.load(dtype="float32", device=default_device())
        prove(model)
        return model.requires_grad_(False)

    @functools.cached_property
    def sampler(self) -> Sampler:
        """Samples answers to token ids."""
        settings = self.settings
        if settings.engine == "vllm":
            if self.checkpoint.is_adapter:
                raise ConfigError(
                    f"{self.name}: --engine vllm needs a whole model; fold the adapter into its base first."
                )
            return vllm_sampler(self.checkpoint.folder, end_ids=self.end_ids, seed=settings.seed)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        return transformers_sampler(
            self.model, end_ids=self.end_ids, pad_id=int(pad), batch_size=settings.batch_size, seed=settings.seed
        )

    @functools.cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a response."""
        return end_token_ids(self.checkpoint.start, self.tokenizer)

    def prompts(self, examples: Sequence[Example]) -> list[Ids]:
        """Return the tokens of each prompt."""
        return [prompt_ids(example.prompt, self.tokenizer, self.limits) for example in examples]

    def text(self, response: Response) -> str:
        """Return the text of a response."""
        return response_text(response.tokens, self.tokenizer)

    def first_step(self, tokens: Ids, step_tokens: int) -> int:
        """Return how many tokens of a continuation are its first step."""
        return step_length(tokens, lambda token: response_text([token], self.tokenizer), step_tokens)

    def spec(
        self, stage: str, prompts: Sequence[Ids], params: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> StageSpec:
        """Return what answers to some prompts are made from."""
        settings = self.settings
        own = {"seed": settings.seed, "engine": settings.engine, "end_ids": list(self.end_ids), **params}
        asked = digest_of(prompt.tobytes().hex() for prompt in prompts)
        made_from = {**self.digests, **inputs, "prompts": asked}
        return StageSpec(stage, _VERSION, own, made_from, {**float32_here(), "batch_size": settings.batch_size})


def sampled(
    answerer: Answerer, examples: Sequence[Example], origin: str, say: Say, *, temperature: float = 1.0
) -> list[list[Candidate]]:
    """Return a model's answers to each prompt, sampling those that are nowhere committed.

    Answer k to a prompt comes from the stream of (seed, prompt, k), so more samples leave the others as they are.

    Args:
        answerer: the model and its settings.
        examples: the prompts.
        origin: where the answers come from, as `Candidate` has it.
        say: called with a line of progress.
        temperature: of the sampling, [0, inf).
    """
    settings, prompts = answerer.settings, answerer.prompts(examples)
    found: list[list[Candidate]] = [[] for _ in examples]
    tell = _Progress(f"{answerer.name}: answers", len(prompts) * settings.samples, say)
    for chunk in _chunks(len(prompts), settings.batch_size):
        asked = [prompts[i] for i in chunk]
        for k in range(settings.samples):
            params: dict[str, Any] = {"sample": k, "max_new_tokens": settings.max_new_tokens}
            params |= {} if temperature == 1 else {"temperature": temperature}
            spec = answerer.spec("sampled", asked, params, {})
            if store().find(spec) is None:
                keys = [f"{prompt.tobytes().hex()}/{k}" for prompt in asked]
                drawn = answerer.sampler(asked, keys, settings.max_new_tokens, temperature)
                _commit(spec, [_record(response) for response in drawn])
            for i, record in zip(chunk, _records(store().get(spec)), strict=True):
                response = _response(record)
                found[i].append(Candidate(origin, answerer.text(response), response.truncated))
            tell(len(chunk))
    return found


def searched(
    answerer: Answerer, examples: Sequence[Example], scorer: Scorer, settings: SearchSettings, say: Say
) -> list[list[Candidate]]:
    """Return the answers of a tree search for each prompt, growing the trees that are nowhere committed."""
    prompts = answerer.prompts(examples)
    found: list[list[Candidate]] = [[] for _ in examples]
    tell = _Progress(f"{answerer.name}: trees", len(prompts), say)
    for chunk in _chunks(len(prompts), answerer.settings.batch_size):
        asked, rows = [prompts[i] for i in chunk], [examples[i] for i in chunk]
        params = {name: getattr(settings, name) for name in SearchSettings.__dataclass_fields__}
        spec = answerer.spec("searched", asked, params, {"reward": scorer.digest, "rows": _rows_id(rows)})
        if store().find(spec) is None:
            _commit(spec, _grow(answerer, asked, rows, scorer, settings))
        for record in _records(store().get(spec)):
            response = _response(record)
            scores = json.loads(record["scores"])
            candidate = Candidate("model", answerer.text(response), response.truncated, tuple(record["path"]), scores)
            found[chunk[record["tree"]]].append(candidate)
        tell(len(chunk))
    return found


def _grow(
    answerer: Answerer, prompts: Sequence[Ids], rows: Sequence[Example], scorer: Scorer, settings: SearchSettings
) -> list[dict[str, Any]]:
    seen: dict[tuple[int, bytes], Scores] = {}

    def score(asked: Sequence[tuple[int, Response]]) -> list[float]:
        scores = scorer.scores([(rows[i], answerer.text(response)) for i, response in asked])
        seen.update({(i, r.tokens.tobytes()): each for (i, r), each in zip(asked, scores, strict=True)})
        return [each["reward"] for each in scores]

    trees = search(
        prompts,
        [prompt.tobytes().hex() for prompt in prompts],
        answerer.sampler,
        score,
        lambda tokens: answerer.first_step(tokens, settings.step_tokens),
        settings,
    )
    return [
        {
            "tree": i,
            "path": list(found.path),
            "scores": json.dumps(seen[i, found.response.tokens.tobytes()]),
            **_record(found.response),
        }
        for i, tree in enumerate(trees)
        for found in tree
    ]


def scored(
    candidates: Sequence[Sequence[Candidate]], examples: Sequence[Example], scorer: Scorer, say: Say
) -> list[list[Candidate]]:
    """Return candidates with their scores; equal texts behind a prompt are scored once, cut ones not at all."""
    found: list[list[Candidate]] = []
    tell = _Progress(f"{scorer.name}: prompts scored", len(examples), say)
    for chunk in _chunks(len(examples), scorer.batch_size):
        texts = {(i, candidate.text): None for i in chunk for candidate in candidates[i] if _to_score(candidate)}
        asked = [(examples[i], text) for i, text in texts]
        known = dict(zip(texts, _scores(asked, scorer), strict=True)) if asked else {}
        found += [[c._replace(scores=known[i, c.text]) if _to_score(c) else c for c in candidates[i]] for i in chunk]
        tell(len(chunk))
    return found


def _to_score(candidate: Candidate) -> bool:
    return candidate.scores is None and not candidate.truncated and bool(candidate.text.strip())


def _scores(asked: Sequence[tuple[Example, str]], scorer: Scorer) -> list[Scores]:
    inputs = {"reward": scorer.digest, "rows": _rows_id([e for e, _ in asked]), "texts": digest_of(t for _, t in asked)}
    spec = StageSpec("scored", _VERSION, {"template": scorer.template}, inputs, float32_here())
    if store().find(spec) is None:
        _commit(spec, [{"scores": json.dumps(scores)} for scores in scorer.scores(asked)])
    return [json.loads(record["scores"]) for record in _records(store().get(spec))]


def ches_scores(answerer: Answerer, rows: Sequence[TokenRow]) -> list[float]:
    """Return the length-normalised CHES score of each pair to a model that has not been trained on it."""
    inputs = {**answerer.digests, "rows": rows_digest(rows)}
    spec = StageSpec("ches", _VERSION, {}, inputs, float32_here())
    if store().find(spec) is None:
        found = similarities(answerer.model, rows, budget=_BUDGET)
        _commit(spec, [{"ches": each["ches_mean"]} for each in found])
    return [record["ches"] for record in _records(store().get(spec))]


def _rows_id(examples: Sequence[Example]) -> str:
    """Return what identifies what a reward sees of rows beside the response."""
    return digest_of(canonical_json([example.prompt, dict(example.meta)]) for example in examples)


def _chunks(n: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def _record(response: Response) -> dict[str, Any]:
    return {"tokens": response.tokens.tolist(), "truncated": response.truncated}


def _response(record: Mapping[str, Any]) -> Response:
    return Response(np.asarray(record["tokens"], dtype=np.int64), record["truncated"])


def _commit(spec: StageSpec, records: Sequence[dict[str, Any]]) -> None:
    with store().write(spec, {}) as folder:
        write_table(folder / "table.parquet", list(records))


def _records(artefact: Artefact) -> list[dict[str, Any]]:
    return pq.read_table(artefact.file("table.parquet")).to_pylist()


class _Progress:
    """A line every few seconds."""

    def __init__(self, what: str, total: int, say: Say) -> None:
        self._what, self._total, self._say = what, total, say
        self._done, self._last = 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self._done += n
        if time.monotonic() - self._last > _SAY_EVERY_S:
            self._last = time.monotonic()
            self._say(f"{self._what}: {self._done} of {self._total}")
