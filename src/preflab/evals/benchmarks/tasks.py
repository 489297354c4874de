"""A benchmark made ready for a model: the items of a profile, what scores them, and the key of the score."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.errors import ConfigError
from preflab.core.ids import digest_of
from preflab.data.render import template_digest
from preflab.evals.benchmarks import choices, ifeval, writing
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.files import missing, read_rows
from preflab.evals.benchmarks.items import ChoiceItem, Row, WrittenItem
from preflab.evals.benchmarks.keys import Key
from preflab.evals.benchmarks.questions import choice_items, worked_choices
from preflab.evals.benchmarks.selection import Profile, digest, subset
from preflab.evals.benchmarks.written import scored_rows, written_items
from preflab.evals.mathematics import check_library as check_math
from preflab.models.load import tokenizer_digest

Template = Literal["auto", "none"]
"""`auto`: written answers to instructions go through the model's chat template; `none`: nothing does."""

_VERSIONS = {"choice": choices.VERSION, "written": writing.VERSION}


@dataclass(frozen=True)
class Task:
    """A benchmark with the items of a profile.

    Args:
        benchmark: which one.
        profile: how much of it.
        items: what is asked.
        shots: rows that worked examples come from, in the order of their file.
    """

    benchmark: Benchmark
    profile: Profile
    items: Sequence[ChoiceItem | WrittenItem]
    shots: Sequence[Row] = ()

    @functools.cached_property
    def subset(self) -> str:
        """SHA-256 of which items these are."""
        return digest([item.row for item in self.items])

    @functools.cached_property
    def prompts(self) -> str:
        """SHA-256 of the text of all prompts and options, before a chat template."""
        return digest_of(text for item in self.items for text in _texts(item))

    def key(
        self, tokenizer: PreTrainedTokenizerBase, template: Template, numeric: Mapping[str, Any], scorer: str = ""
    ) -> Key:
        """Return what a score depends on beside the weights.

        Args:
            tokenizer: the model's.
            template: whether instructions go through its chat template.
            numeric: device and dtype.
            scorer: who scores; by default the native scorer.
        """
        chat = self.chats(tokenizer, template)
        written = self.benchmark.kind == "written"
        return Key(
            benchmark=self.benchmark.name,
            scorer=scorer or f"native {_VERSIONS[self.benchmark.kind]}",
            shots=self.profile.shots_of(self.benchmark),
            template=template_digest(tokenizer, "chat") if chat else "",
            subset=self.subset,
            prompts=self.prompts,
            longest=self.profile.longest_of(self.benchmark) if written else 0,
            tokenizer=tokenizer_digest(tokenizer),
            numeric=numeric,
        )

    @property
    def characters(self) -> int:
        """Characters that a model reads: each context once, and every option."""
        return sum(sum(map(len, dict.fromkeys(_texts(item)))) for item in self.items)

    def misfit(self, context: float) -> str:
        """Return one sentence where written answers leave no room for a prompt in a context, else an empty text."""
        longest = self.profile.longest_of(self.benchmark)
        if self.benchmark.kind == "choice" or longest < context:
            return ""
        return f"{self.benchmark.name}: answers of up to {longest} tokens do not fit a context of {context:.0f}."

    def worked(self, item: ChoiceItem | WrittenItem) -> list[tuple[str, str]]:
        """Return the worked examples in front of an item, as question and answer."""
        if isinstance(item, WrittenItem):
            return list(item.turns)
        rows = [item.row for item in self.items]
        return worked_choices(self.benchmark, item.row, rows, self.shots, self.profile.shots_of(self.benchmark))

    def chats(self, tokenizer: PreTrainedTokenizerBase, template: Template) -> bool:
        """Return whether prompts go through the model's chat template."""
        return template == "auto" and self.benchmark.chat and bool(tokenizer.chat_template)

    def run(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: Template,
        end_ids: Sequence[int],
        context: float,
        budget: int,
        batch_size: int,
        known: Sequence[dict[str, Any]] = (),
        kept: Callable[[list[dict[str, Any]]], None] = lambda records: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[dict[str, Any]]:
        """Return one record per item; see `score_choices` and `write_answers` for arguments and records."""
        if self.benchmark.kind == "choice":
            items: Any = self.items
            return choices.score_choices(
                model, tokenizer, self.benchmark, items, context=context, budget=budget, progress=progress
            )
        written: Any = self.items
        return writing.write_answers(
            model,
            tokenizer,
            self.benchmark,
            written,
            chat=self.chats(tokenizer, template),
            end_ids=end_ids,
            context=context,
            longest=self.profile.longest_of(self.benchmark),
            batch_size=batch_size,
            known=known,
            kept=kept,
            progress=progress,
        )


def prepare(benchmarks: Sequence[Benchmark], profile: Profile, folder: Path) -> tuple[list[Task], list[str]]:
    """Return the tasks whose files and libraries are there, and one sentence for each that is missing.

    Args:
        benchmarks: what is wanted.
        profile: how much of each.
        folder: where the files are.

    Raises:
        DataError: a file is damaged.
    """
    tasks, absent = [], []
    for benchmark in benchmarks:
        reason = missing(benchmark, folder, shots=profile.shots_of(benchmark)) or _lacks_library(benchmark)
        if reason:
            absent.append(reason)
        else:
            tasks.append(_task(benchmark, profile, folder))
    return tasks, absent


def _task(benchmark: Benchmark, profile: Profile, folder: Path) -> Task:
    n_shots = profile.shots_of(benchmark)
    rows = subset(scored_rows(benchmark, read_rows(folder, benchmark.file)), profile.items)
    pool = read_rows(folder, benchmark.shots_file) if benchmark.shots_file and n_shots else []
    make: Any = choice_items if benchmark.kind == "choice" else written_items
    return Task(benchmark, profile, make(benchmark, rows, pool, n_shots), pool)


def _lacks_library(benchmark: Benchmark) -> str:
    """Return one sentence on a library that the benchmark needs and that is not installed."""
    checks = {"math500": check_math, "ifeval": ifeval.check_library}
    try:
        checks.get(benchmark.name, lambda: None)()
    except ConfigError as error:
        return str(error).replace("the reward 'math'", benchmark.name).replace(", or use last-number", "")
    return ""


def _texts(item: ChoiceItem | WrittenItem) -> list[str]:
    if isinstance(item, WrittenItem):
        return [item.plain]
    return [text for option in item.options for text in (option.context, option.continuation)]
