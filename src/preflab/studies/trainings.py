"""The stages of a study up to its trained cells: ids, needs and amounts of work, from configuration and data.

Only what matters to a stage's result enters its id: no beta in an SFT stage, no later size in a smaller cell, no
evaluation setting in a training run. That is what lets a grown study keep what it has.
"""

import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from preflab.core.ids import canonical_json, digest_of
from preflab.data.examples import TokenRow
from preflab.methods import BRADLEY_TERRY, code_digest
from preflab.methods.needs import (
    moves_reference,
    passes_of,
    reads_scores,
    roles_of,
    stored_roles,
)
from preflab.models.load import weights_digest
from preflab.store.artefacts import Artefact, StageSpec
from preflab.studies.amounts import PAIR, Amounts
from preflab.studies.bench import Bench
from preflab.studies.cells import LORA_FACTOR, Cell, MethodGrid, blocks
from preflab.studies.config import OptimizerConfig, StudyConfig
from preflab.studies.prepare import has_split, read_split, rows_digest
from preflab.studies.questions import questions
from preflab.studies.stages import VERSIONS, Stage, Work
from preflab.train.optimize import decay_start
from preflab.train.source import n_steps

_SFT_SEED = 0
"""Seed of the one SFT of a study; with `sft.seeds: per_seed` the cell's seed takes its place."""


@dataclass(frozen=True)
class Trainings:
    """Builds the stages that end with trained cells.

    Args:
        config: the study.
        grids: its methods by name.
        data: its data artefact.
        bench: what its stages work with.
        sizes: its ascending training sizes.
        token_budget: flat tokens per forward and backward.
        reward_code: digest of the reward's code as it was when the study was planned.
        online_code: the same of what rewards own answers; empty where a reward model does.
    """

    config: StudyConfig
    grids: Mapping[str, MethodGrid]
    data: Artefact
    bench: Bench
    sizes: tuple[int, ...]
    token_budget: int
    reward_code: str
    online_code: str
    _made: dict[Hashable, Stage] = field(default_factory=dict)
    _splits: dict[str, Sequence[TokenRow]] = field(default_factory=dict)
    _digests: dict[tuple[str, int | None, tuple[str, ...], bool], str] = field(default_factory=dict)

    @functools.cached_property
    def amounts(self) -> Amounts:
        """How much its stages compute."""
        return Amounts(self.config, self.data.info)

    def starts(self) -> list[tuple[str, int | None]]:
        """Return the start points; `sft` once per seed where the study says so."""
        points: list[tuple[str, int | None]] = []
        for start in self.config.starts:
            points += (
                [(start, self.sft_seed(seed)) for seed in self.config.seeds] if start == "sft" else [(start, None)]
            )
        return list(dict.fromkeys(points))

    def sft_seed(self, seed: int) -> int:
        """Return the seed of the SFT behind a cell."""
        return seed if self.config.sft.seeds == "per_seed" else _SFT_SEED

    def sft(self, seed: int) -> Stage:
        """Return the stage that fine-tunes base on the sft split."""
        config = self.config.sft
        params = self._training(config, config.learning_rate, seed)
        inputs = {"start": weights_digest(self.bench.models["base"]), "rows": self._digest("sft"), **self._monitor()}
        work = self.amounts.training(config, "sft", self.amounts.rows("sft"), ("chosen",))
        return self._stage(self._spec("sft", params, inputs), f"SFT of base, seed {seed}", (), work, "sft")

    def reference(self, start: str, seed: int | None) -> Stage:
        """Return the stage that scores everything the study asks of a start point, once."""
        roles = [role for g in self.grids.values() for role in stored_roles(g.method)]
        train = [("train", list(dict.fromkeys(roles)), self.sizes[-1])] if roles else []
        held_out = [("validation", list(PAIR), self.amounts.rows("validation"))]
        held_out += [(name, list(PAIR), self.amounts.pairs(name)) for name in self._evaluated()]
        scored = [*train, *held_out]
        tokens = sum(n * self.amounts.tokens(name, names) for name, names, n in scored)
        inputs = {"start": self._start_id(start, seed), "data": self.data_id}
        needs = (self.sft(seed).id,) if start == "sft" and seed is not None else ()
        label = f"reference log-probs of {start_label(start, seed)}"
        spec = self._spec("reference", {"scored": [list(entry) for entry in scored]}, inputs)
        return self._stage(spec, label, needs, Work(score_tokens=tokens), start, sft_seed=seed)

    def reward_models(self, cell: Cell) -> list[Stage]:
        """Return the stage that trains the reward model of a cell's own answers, or nothing where none judges them."""
        if not self.grids[cell.method].method.is_online or self.config.online_reward != "model":
            return []
        return [self._once(("reward_model", cell.start, cell.size, cell.seed), lambda: self._reward_model(cell))]

    def _reward_model(self, cell: Cell) -> Stage:
        """Return the stage that fits a reward model to the pairs of a cell, from its start point and with its seed."""
        config, lora = self.config.reward_model, self.config.train.lora
        rate = config.learning_rate or BRADLEY_TERRY.learning_rates[0] * (1 if lora is None else LORA_FACTOR)
        params = {**self._training(config, rate, cell.seed), "blocks": list(blocks(self.sizes, cell.size))}
        if config.objective != "bradley_terry":
            params["objective"] = config.objective
        seed = self.sft_seed(cell.seed) if cell.start == "sft" else None
        inputs = {
            "start": self._start_id(cell.start, seed),
            "rows": self._digest("train", cell.size),
            **self._monitor(),
        }
        work = self.amounts.training(config, "train", cell.size, PAIR)
        needs = (self.sft(seed).id,) if seed is not None else ()
        label = f"reward model of {start_label(cell.start, seed)}, {cell.size} rows, seed {cell.seed}"
        together = "" if lora is None else f"reward model {inputs['start']} {cell.size}"
        return self._stage(
            self._spec("reward_model", params, inputs), label, needs, work, cell.start, sft_seed=seed, together=together
        )

    def train(self, cell: Cell) -> Stage:
        """Return the stage that trains one cell, from its last leg where it has one."""
        return self._part(cell, None, self.legs(cell))

    def legs(self, cell: Cell) -> list[Stage]:
        """Return the stages that a cell's training passes through before its own, first to last.

        With the schedule `wsd`, training up to the decay of each smaller size, which it shares with the cells of those
        sizes; with `tune`, training up to each rung, where its setting may stop.
        """
        ends: list[tuple[Cell, int]] = []
        passes = passes_of(self.grids[cell.method].method, cell.setting.hyperparameters)
        if self.config.train.schedule == "wsd":
            shared = [size for size in self.sizes[:-1] if size <= cell.size]
            frac = self.config.train.decay_frac
            ends = [(replace(cell, size=size), decay_start(self._n_steps(size) * passes, frac)) for size in shared]
        if self.is_tuned(cell):
            ends = [(cell, step * passes) for step in self.rungs(cell.size)]
        legs: list[Stage] = []
        for of, until in ends:
            legs.append(self._part(of, until, legs))
        return legs

    def is_searched(self, cell: Cell) -> bool:
        """Return whether a cell's setting is one of several, of which validation selects one."""
        return len(self.grids[cell.method].settings) > 1

    def is_tuned(self, cell: Cell) -> bool:
        """Return whether a cell's setting may stop early."""
        return self.config.tune is not None and self.is_searched(cell)

    def rungs(self, size: int) -> list[int]:
        """Return the steps after which settings that are behind stop."""
        tune, steps = self.config.tune, self._n_steps(size)
        if tune is None:
            return []
        at = (math.ceil(steps / tune.factor**left) for left in range(tune.rungs, 0, -1))
        return [step for step in dict.fromkeys(at) if step < steps]

    def n_steps(self, cell: Cell) -> int:
        """Return the optimizer steps of a cell that nothing stops."""
        return self._n_steps(cell.size) * passes_of(self.grids[cell.method].method, cell.setting.hyperparameters)

    def _n_steps(self, size: int) -> int:
        """Return the optimizer steps for that many rows, without further passes over own answers."""
        return n_steps(size, batch_size=self.config.train.batch_size, epochs=self.config.train.epochs)

    def _part(self, cell: Cell, until: int | None, before: Sequence[Stage]) -> Stage:
        """Return the stage that trains a cell up to a step, or to its end, after the legs before it."""
        return self._once((cell.id, until), lambda: self._train(cell, until, before))

    def _train(self, cell: Cell, until: int | None, before: Sequence[Stage]) -> Stage:
        grid = self.grids[cell.method]
        roles = () if grid.method.is_online else roles_of(grid.method)
        judges = self.reward_models(cell)
        params = {
            "method": grid.method.name,
            "code": code_digest(grid.method) if ":" in grid.source else None,
            "hyperparameters": dict(cell.setting.hyperparameters),
            **self._training(self.config.train, cell.setting.learning_rate, cell.seed),
            "blocks": list(blocks(self.sizes, cell.size)),
            **({} if until is None else {"until": until}),
            **({"online": self._online()} if grid.method.is_online else {}),
            **({"stop": {"on": "chosen", "patience": self.config.train.patience}} if grid.stops else {}),
        }
        watched = self.amounts.snapshots(cell)
        if watched:
            params["snapshots"] = {"prompts": watched, **self._answers()}
        seed = self.sft_seed(cell.seed) if cell.start == "sft" else None
        inputs = {
            "start": self._start_id(cell.start, seed),
            "rows": self._digest("train", cell.size, roles, scores=reads_scores(grid.method)),
            **self._monitor(),
            **({"judge": judges[0].id} if judges else {}),
            **({"prompts": self._asked_on_the_way} if watched else {}),
        }
        passes = passes_of(grid.method, cell.setting.hyperparameters)
        whole = self.n_steps(cell)
        began = before[-1].spec.params["until"] if before else 0
        steps = (whole if until is None else until) - began
        work = self.amounts.cell(grid.method, cell, passes=passes, steps=steps, whole=whole)
        needs = (self.reference(cell.start, seed).id, *(stage.id for stage in [*judges, *before[-1:]]))
        # A reference that moves is a whole model of its own: a group would hold as many.
        alone = self.config.train.lora is None or moves_reference(grid.method)
        return self._stage(
            self._spec("train" if until is None else "leg", params, inputs),
            cell.label if until is None else f"steps {began + 1} to {until} of {cell.label}",
            needs,
            work,
            cell.start,
            cell=cell,
            sft_seed=seed,
            # Cells that continue from a leg begin when their size or rung is reached.
            together="" if alone else f"{needs[0]} {began} {until} {cell.size if before else ''}",
            after=before[-1].spec if before else None,
            reads={"reward_model": judges[0].spec} if judges else None,
        )

    @functools.cached_property
    def _asked_on_the_way(self) -> str:
        """Digest of the test prompts that are answered on the way through a training."""
        asked = questions(read_split(self.data, "test"), self.config.train.monitor_prompts)
        return digest_of(canonical_json([q.example.row, q.prompt.tolist()]) for q in asked)

    def _online(self) -> dict[str, Any]:
        """Return what decides own answers and their rewards."""
        return {
            "reward": self.config.online_reward,
            "reward_code": self.online_code,
            "gold": self.config.evaluate.reward,
            "gold_code": self.reward_code,
            "samples": self.config.online.samples,
            "round": self.config.online_round,
            **self._answers(),
        }

    def _answers(self) -> dict[str, Any]:
        """Return what decides how an answer is sampled, beside weights, prompt and seed."""
        evaluate = self.config.evaluate
        return {
            "max_new_tokens": evaluate.max_new_tokens,
            "batch_size": evaluate.batch_size,
            "end_ids": list(self.bench.end_ids),
        }

    @functools.cached_property
    def numeric(self) -> dict[str, Any]:
        """What changes the last digits of every stage."""
        return {
            "device": self.bench.device,
            "dtype": self.bench.dtype,
            "threads": self.config.numeric.threads,
            "token_budget": self.token_budget,
        }

    @functools.cached_property
    def data_id(self) -> str:
        """Id of the data artefact."""
        return StageSpec(**self.data.spec).id

    def _spec(self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, str]) -> StageSpec:
        return StageSpec(kind, VERSIONS[kind], params, inputs, self.numeric)

    def _stage(
        self,
        spec: StageSpec,
        label: str,
        needs: tuple[str, ...],
        work: Work,
        start: str,
        *,
        cell: Cell | None = None,
        sft_seed: int | None = None,
        train: StageSpec | None = None,
        together: str = "",
        after: StageSpec | None = None,
        reads: Mapping[str, StageSpec] | None = None,
    ) -> Stage:
        sft = self.sft(sft_seed).spec if start == "sft" and sft_seed is not None and spec.stage != "sft" else None
        return Stage(
            label=label,
            spec=spec,
            needs=needs,
            work=work,
            start=start,
            cell=cell,
            sft=sft,
            train=train,
            sft_seed=sft_seed,
            method=self.grids[cell.method].source if cell else "",
            together=together,
            after=after,
            reads=reads or {},
        )

    def _once(self, key: Hashable, make: Callable[[], Stage]) -> Stage:
        """Return what was made before; ids are hashes of everything that goes into a stage."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _start_id(self, start: str, seed: int | None) -> str:
        if start == "sft":
            assert seed is not None
            return self.sft(seed).id
        return weights_digest(self.bench.models[start])

    def _training(self, config: OptimizerConfig, learning_rate: float, seed: int) -> dict[str, Any]:
        """Return the parameters that every kind of training has."""
        train = self.config.train
        shared = {name: getattr(config, name) for name in OptimizerConfig.model_fields if name != "token_budget"}
        return {
            "settings": {**shared, "learning_rate": learning_rate, "monitor_points": train.monitor_points},
            "lora": None if train.lora is None else train.lora.model_dump(mode="json"),
            "seed": seed,
            "monitor_rows": train.monitor_rows,
        }

    def _monitor(self) -> dict[str, str]:
        n = min(self.config.train.monitor_rows, self.amounts.rows("validation"))
        return {"monitor": self._digest("validation", n)}

    def _evaluated(self) -> list[str]:
        """Return the splits that final cells are evaluated on."""
        return [name for name in ("test", "ood") if has_split(self.data, name)]

    def _digest(self, split: str, n: int | None = None, roles: tuple[str, ...] = PAIR, *, scores: bool = False) -> str:
        key = (split, n, roles, scores)
        if key not in self._digests:
            if split not in self._splits:
                self._splits[split] = read_split(self.data, split).rows
            self._digests[key] = rows_digest(self._splits[split][:n], roles, scores=scores)
        return self._digests[key]


def start_label(start: str, seed: int | None) -> str:
    """Return how a start point is named, with the seed of its SFT."""
    return start if seed is None else f"{start} (seed {seed})"
