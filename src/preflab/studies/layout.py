"""All stages of a study: those that train, and those that validate, evaluate and diagnose what was trained."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from preflab.evals.benchmarks.tasks import Task
from preflab.studies.amounts import PAIR
from preflab.studies.benchmarking import work_of
from preflab.studies.prepare import read_split
from preflab.studies.resources import tokenizer_of
from preflab.studies.stages import Stage, Work
from preflab.studies.trainings import Trainings, start_label

_RENDERED = ("template", "max_tokens", "max_prompt_tokens")
"""Settings of the data by which a paraphrase becomes tokens."""


@dataclass(frozen=True)
class Layout(Trainings):
    """Builds the stages of a study.

    Args:
        tasks: its benchmarks.
    """

    tasks: tuple[Task, ...] = ()

    def validate(self, train: Stage) -> Stage:
        """Return the stage that scores a cell, or a leg, on validation, for selection among settings."""
        return self._once(("validate", train.id), lambda: self._validate(train))

    def _validate(self, train: Stage) -> Stage:
        metric = self.selection_metric
        params: dict[str, Any] = {"metric": metric, "n_rows": self.amounts.rows("validation")}
        if metric == "reward":
            params |= self._sampling(train)
        work = self.amounts.validation(metric)
        inputs = {"train": train.id, "rows": str(self.data.info["digest"]["validation"])}
        spec = self._spec("validate", params, inputs)
        return self._stage(spec, f"validation of {train.label}", (train.id,), work, train.start, **_of(train))

    def evaluate(self, train: Stage) -> Stage:
        """Return the stage that scores a final cell on the test and out-of-distribution splits."""
        label = f"evaluation of {train.label}"
        make = functools.partial(self._evaluation, label, train.start, {"train": train.id}, (train.id,), train)
        return self._once(("evaluate", train.id), make)

    def evaluate_start(self, start: str, seed: int | None) -> Stage:
        """Return the stage that evaluates a start point as it is."""
        reference = self.reference(start, seed)
        inputs = {"start": self._start_id(start, seed)}
        return self._evaluation(f"evaluation of {start_label(start, seed)}", start, inputs, (reference.id,), reference)

    def judge(self, train: Stage) -> list[Stage]:
        """Return the stages of a final cell after its training: evaluation, what training did to it, benchmarks."""
        return [self.evaluate(train), *self.examine(train), *self._benchmarks(train, {"train": train.id})]

    def judge_unselected(self, train: Stage) -> list[Stage]:
        """Return the stages that a cell has after its training, selected or not."""
        return [self.evaluate(train)] if self.config.evaluate.settings == "all" else []

    def judge_start(self, start: str, seed: int | None) -> list[Stage]:
        """Return the same of a start point as it is."""
        benchmarks = self._benchmarks(self.reference(start, seed), {"start": self._start_id(start, seed)})
        return [self.evaluate_start(start, seed), *self.examine_start(start, seed), *benchmarks]

    def examine(self, train: Stage) -> list[Stage]:
        """Return the stages that say what training did to a final cell; none where nothing can be compared."""
        return self._examined(train, lambda: self.evaluate(train), {"train": train.id})

    def examine_start(self, start: str, seed: int | None) -> list[Stage]:
        """Return the stages that give test rows their probes from a start point, for the cells that it becomes."""
        evaluation = functools.partial(self.evaluate_start, start, seed)
        return self._examined(self.reference(start, seed), evaluation, {"start": self._start_id(start, seed)})

    def _examined(self, of: Stage, evaluation: Callable[[], Stage], inputs: Mapping[str, str]) -> list[Stage]:
        config = self.config.diagnose
        if config is None or not self.compares:
            return []
        found = [self._once(("diagnose", *inputs.values()), lambda: self._diagnosis(of, evaluation(), inputs))]
        if config.gradients and self.data.info["kind"] == "paired":
            found.append(self._once(("gradients", *inputs.values()), lambda: self._gradients(of, inputs)))
        return found

    def _benchmarks(self, of: Stage, inputs: Mapping[str, str]) -> list[Stage]:
        """Return one stage per benchmark; its spec holds everything that its score depends on."""
        return [self._benchmark(task, params, of, inputs) for task, params in self._asked]

    def _benchmark(self, task: Task, params: Mapping[str, Any], of: Stage, inputs: Mapping[str, str]) -> Stage:
        label = f"{task.benchmark.title} of {_named(of)}"
        spec = self._spec("benchmark", params, inputs)
        return self._stage(spec, label, (of.id,), work_of(task), of.start, **_of(of))

    @functools.cached_property
    def _asked(self) -> list[tuple[Task, dict[str, Any]]]:
        """The benchmarks with what decides a score beside the weights, which is the same for every cell."""
        config = self.config.evaluate.benchmarks
        if config is None:
            return []
        tokenizer = tokenizer_of(self.bench)
        numeric = {"device": self.bench.device, "dtype": self.bench.dtype}
        shared = {"profile": config.profile, "template": config.template, "batch_size": config.batch_size}
        return [
            (
                task,
                {
                    "key": task.key(tokenizer, config.template, numeric).as_json(),
                    "end_ids": list(self.bench.end_ids),
                    **shared,
                },
            )
            for task in self.tasks
        ]

    def _diagnosis(self, of: Stage, evaluation: Stage, inputs: Mapping[str, str]) -> Stage:
        assert self.config.diagnose is not None
        rows = min(self.config.diagnose.rows, self.amounts.rows("test"))
        prompts = min(self.config.diagnose.prompts, self.amounts.prompts("test"))
        reads, params = {"evaluate": evaluation.spec}, {"prompts": prompts}
        if of.cell is None:
            params |= {"rows": rows, **{name: self.data.spec["params"][name] for name in _RENDERED}}
        else:
            (start, *_) = self.examine_start(of.start, of.sft_seed)
            reads["start"] = start.spec
        work = self.amounts.diagnosis(rows, prompts, greedy=of.cell is None)
        spec = self._spec("diagnose", params, {**inputs, **{name: read.id for name, read in reads.items()}})
        needs = tuple(read.id for read in reads.values())
        return self._stage(spec, f"diagnosis of {_named(of)}", needs, work, of.start, reads=reads, **_of(of))

    def _gradients(self, of: Stage, inputs: Mapping[str, str]) -> Stage:
        assert self.config.diagnose is not None
        rows, pairs = min(self.config.diagnose.rows, self.amounts.rows("test")), self.config.diagnose.gradients
        spec = self._spec("gradients", {"rows": rows, "pairs": pairs}, {**inputs, "rows": self._digest("test", rows)})
        work = Work(train_tokens=pairs * self.amounts.tokens("test", PAIR))
        return self._stage(spec, f"gradients of {_named(of)}", (of.id,), work, of.start, **_of(of))

    @functools.cached_property
    def compares(self) -> bool:
        """Whether the test rows of a diagnosis hold both better and worse responses."""
        config = self.config.diagnose
        rows = read_split(self.data, "test", config.rows).rows if config else ()
        return all(any(role in row.responses for row in rows) for role in PAIR)

    @property
    def selection_metric(self) -> str:
        """`reward` or `accuracy`: what picks settings on validation."""
        chosen = self.config.evaluate.select_by
        return ("reward" if self.config.evaluate.reward else "accuracy") if chosen == "auto" else chosen

    def _evaluation(
        self, label: str, start: str, inputs: Mapping[str, str], needs: tuple[str, ...], of: Stage
    ) -> Stage:
        splits = self._evaluated()
        params = {"splits": splits, "n_pairs": self.config.evaluate.n_pairs, **self._sampling(of)}
        rows = {f"rows_{name}": str(self.data.info["digest"][name]) for name in splits}
        work = self.amounts.evaluation(splits)
        return self._stage(self._spec("evaluate", params, {**inputs, **rows}), label, needs, work, start, **_of(of))

    def _sampling(self, of: Stage) -> dict[str, Any]:
        """Return what decides sampled responses; the cell's seed names their random streams, alike for every method."""
        evaluate = self.config.evaluate
        return {
            "n_prompts": evaluate.n_prompts,
            **self._answers(),
            "seed": of.cell.seed if of.cell else self.config.seeds[0],
            "reward": evaluate.reward,
            "reward_code": self.reward_code,
            "tokenizer": self.data.spec["inputs"]["tokenizer"],
        }


def _of(stage: Stage) -> dict[str, Any]:
    """Return what an evaluation inherits from the stage it evaluates."""
    return {
        "cell": stage.cell,
        "sft_seed": stage.sft_seed,
        "train": stage.spec if stage.kind in ("leg", "train") else None,
    }


def _named(of: Stage) -> str:
    return of.label if of.cell else start_label(of.start, of.sft_seed)
