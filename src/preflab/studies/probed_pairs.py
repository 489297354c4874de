"""What a diagnosis is asked, and the pairs that it looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from preflab.core.errors import ConfigError, DataError
from preflab.core.seeds import permutation
from preflab.data.check import check, exclude
from preflab.data.examples import Example, TokenRow
from preflab.data.mismatched import add_mismatched
from preflab.data.read import read
from preflab.data.tokens import TokenSettings, tokenize
from preflab.models.load import context_length
from preflab.studies.config import SourceConfig
from preflab.studies.names import data_source
from preflab.studies.probe_tables import with_paraphrases

_SPLIT = SourceConfig.model_fields["split"].default


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to diagnose.

    Args:
        start: the start point: folder, Hub id, or pocket:base.
        models: what became of it: folders, adapters, folders of checkpoints, Hub ids.
        data: preference pairs.
        split: of a folder or a Hub data set.
        rows: pairs to score.
        prompts: of them, those that every checkpoint answers.
        gradients: of them, those whose gradients are taken; 0 takes none.
        exclude: row problems to leave out.
        max_tokens: of prompt and response together.
        max_new_tokens: of an answer.
    """

    start: str
    models: tuple[str, ...]
    data: str
    split: str
    rows: int
    prompts: int
    gradients: int
    exclude: tuple[str, ...]
    max_tokens: int
    max_new_tokens: int


def read_pairs(
    request: Request, tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[Example, ...], tuple[TokenRow, ...]]:
    """Read, check and tokenise the pairs, and take some of them in an order of their own."""
    source = data_source(SourceConfig(path=request.data, split=request.split))
    if request.split != _SPLIT and Path(source.path).expanduser().is_file():
        raise ConfigError(f"--split {request.split}: {request.data} is one file, which has no splits.")
    dataset = read(source.path, split=source.split)
    if dataset.kind != "paired":
        raise DataError(f"{request.data}: a diagnosis needs pairs, a chosen and a rejected response to each prompt; "
                        f"these rows are {dataset.kind}.")  # fmt: skip
    settings = TokenSettings("auto", request.max_tokens, max(1, 3 * request.max_tokens // 4))
    dataset, _ = exclude(dataset, check(dataset, tokenizer=tokenizer, tokens=settings), request.exclude, study=False)
    order = permutation(len(dataset.examples), 0, "diagnosis")[: request.rows]
    examples = tuple(dataset.examples[i] for i in order)
    if len({example.prompt for example in examples}) < 2:
        raise DataError(
            f"{request.data}: {len(examples)} pair(s) with one prompt; answers to other prompts are the unseen ones, "
            "so a diagnosis needs at least two prompts."
        )
    rows = tokenize(examples, tokenizer, settings).rows
    # Tables name a row by its place here: a line added to the file must not move old results to other rows.
    rows = tuple(replace(row, row=place) for place, row in enumerate(rows))
    rows = add_mismatched(rows, blocks=(), max_tokens=request.max_tokens)
    return examples, tuple(with_paraphrases(examples, rows, tokenizer, settings))


def check_context(request: Request, start: Path, rows: Sequence[TokenRow]) -> None:
    """Refuse rows that the models cannot see whole; any response may stand behind any prompt, as an unseen answer.

    Raises:
        ConfigError: the context of the start point is too short.
    """
    response = max(len(ids) for row in rows for ids in row.responses.values())
    needed = max(len(row.prompt) for row in rows) + max(response, request.max_new_tokens)
    context = context_length(start)
    if needed > context:
        raise ConfigError(
            f"{request.start}: its context has {context} positions, but the longest prompt with its longest response, "
            f"or with --max-new-tokens {request.max_new_tokens}, needs {needed}; lower --max-tokens or "
            "--max-new-tokens."
        )
