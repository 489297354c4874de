"""From sources to splits: read, check, exclude what the study declares, and hold prompts out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from preflab.core.errors import DataError
from preflab.core.seeds import permutation
from preflab.data.check import check, exclude
from preflab.data.examples import Example, Kind
from preflab.data.problems import Problem
from preflab.data.read import Dataset, read
from preflab.data.split import split_by_prompt
from preflab.data.tokens import TokenSettings
from preflab.studies.config import SourceConfig, StudyConfig
from preflab.studies.names import data_source
from preflab.train.source import nested_order

HELD_OUT = ("validation", "test", "ood")


class Splits(NamedTuple):
    """The rows of every split in their final order, where they came from, and what was left out."""

    examples: Mapping[str, tuple[Example, ...]]
    datasets: Mapping[str, Dataset]
    excluded: tuple[Problem, ...]


def sources(config: StudyConfig) -> dict[str, SourceConfig]:
    """Return split name to source, for every split that has a source of its own."""
    named = {
        "train": config.data.train,
        "validation": config.data.validation,
        "test": config.data.test,
        "ood": config.data.ood,
        "sft": config.sft.data if "sft" in config.starts else None,
    }
    return {name: data_source(source) for name, source in named.items() if isinstance(source, SourceConfig)}


def make_splits(config: StudyConfig, tokenizer: PreTrainedTokenizerBase, settings: TokenSettings) -> Splits:
    """Read and check every source and split it on prompts.

    Train comes in the order whose prefixes are the nested sizes. Held-out splits are shuffled once, so that the first n
    rows of a file sorted by family are not one family.

    Raises:
        DataError: structural problems, row problems that the study does not declare, or an empty split.
    """
    datasets = {name: _read(config, name, source) for name, source in sources(config).items()}
    kept: dict[str, Dataset] = {}
    excluded: list[Problem] = []

    def keep(name: str, dataset: Dataset, others: Mapping[str, Dataset]) -> None:
        problems = check(dataset, tokenizer=tokenizer, tokens=settings, others=others)
        kept[name], left_out = exclude(dataset, problems, config.data.exclude)
        excluded.extend(left_out)

    for name in datasets:
        if name != "sft":
            others = {o: datasets[o] for o in ("train", *HELD_OUT) if o in datasets and o != name}
            keep(name, datasets[name], others if name in HELD_OUT else {})
    splits = _hold_out(config, kept)
    if "sft" in config.starts:
        demonstrations = datasets.get("sft") or replace(
            kept["train"], examples=tuple(e for e in splits["train"] if e.chosen is not None)
        )
        others = {name: replace(kept["train"], examples=splits[name]) for name in HELD_OUT if name in splits}
        keep("sft", demonstrations, others)
        splits["sft"] = kept["sft"].examples
    for name, examples in splits.items():
        if not examples:
            raise DataError(f"data.{name}: no rows are left after exclusions; this study needs some.")
    return Splits({name: _ordered(config, name, rows) for name, rows in splits.items()}, datasets, tuple(excluded))


def _read(config: StudyConfig, name: str, source: SourceConfig) -> Dataset:
    data = config.data
    declared = name != "sft"  # `columns` and `kind` describe the preference data
    kind: Kind | None = data.kind if declared else None
    if name == "ood" and kind is None:
        kind = "prompts"  # pairs as ever, but prompts alone will do: their answers are scored by a reward
    return read(
        source.path,
        split=source.split,
        subset=source.subset,
        revision=source.revision,
        columns=data.columns if declared else None,
        kind=kind,
    )


def _hold_out(config: StudyConfig, kept: Mapping[str, Dataset]) -> dict[str, tuple[Example, ...]]:
    """Return the examples of every split; held-out prompts come from train where the study gives a number."""
    data = config.data
    numbers = {name: n for name in ("validation", "test") if isinstance(n := getattr(data, name), int)}
    splits = {name: dataset.examples for name, dataset in kept.items()}
    if numbers:
        parts = split_by_prompt(
            kept["train"].examples,
            validation=numbers.get("validation", 0),
            test=numbers.get("test", 0),
            seed=data.seed,
        )
        splits |= {name: parts[name] for name in ("train", *numbers)}
    return splits


def _ordered(config: StudyConfig, name: str, examples: tuple[Example, ...]) -> tuple[Example, ...]:
    seed, n = config.data.seed, len(examples)
    order = permutation(n, seed, name) if name in HELD_OUT else nested_order(n, data_seed=seed)
    return tuple(examples[i] for i in order)
