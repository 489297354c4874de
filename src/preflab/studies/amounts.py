"""How much each stage of a study computes, from its configuration and the mean lengths of its data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preflab.methods import Method
from preflab.methods.needs import needs_live_reference, roles_of
from preflab.studies.cells import Cell
from preflab.studies.config import OptimizerConfig, StudyConfig
from preflab.studies.stages import Work
from preflab.train.source import n_steps

PAIR = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Amounts:
    """Counts rows and tokens.

    Args:
        config: the study.
        info: of its data artefact.
    """

    config: StudyConfig
    info: Mapping[str, Any]

    def rows(self, split: str) -> int:
        """Return the rows of a split."""
        return int(self.info["splits"][split])

    def pairs(self, split: str) -> int:
        """Return the rows of a held-out split that are scored."""
        return min(self.config.evaluate.n_pairs or self.rows(split), self.rows(split))

    def prompts(self, split: str) -> int:
        """Return the prompts of a held-out split that are answered."""
        return min(self.config.evaluate.n_prompts, self.info["n_prompts"][split])

    def tokens(self, split: str, roles: Iterable[str]) -> float:
        """Return the mean flat tokens of a row: its prompt and the responses of these roles."""
        means = self.info["mean_tokens"][split]
        return float(means["prompt"] + sum(means.get(role, 0.0) for role in roles))

    def monitor(self) -> float:
        """Return the tokens of following validation rows through one training."""
        n = self.config.train.monitor_points * min(self.config.train.monitor_rows, self.rows("validation"))
        prompt, both = self.tokens("validation", ()), self.tokens("validation", PAIR)
        return n * (both + (both - prompt) / 2)  # an answer to another prompt beside the pair

    def training(self, config: OptimizerConfig, split: str, n: int, roles: Sequence[str]) -> Work:
        """Return what SFT, or a reward model, on `n` rows of a split computes."""
        return Work(
            train_tokens=n * config.epochs * self.tokens(split, roles),
            train_passes=n_steps(n, batch_size=config.batch_size, epochs=config.epochs),
            score_tokens=self.monitor(),
        )

    def snapshots(self, cell: Cell) -> int:
        """Return the test prompts that a cell answers on the way: none but for the lowest seed."""
        if cell.seed != min(self.config.seeds) or "test" not in self.info["n_prompts"]:
            return 0
        return min(self.config.train.monitor_prompts, self.prompts("test"))

    def cell(self, method: Method, cell: Cell, *, passes: int, steps: int, whole: int) -> Work:
        """Return what some steps of a cell compute.

        Args:
            method: its objective.
            cell: which one.
            passes: over own answers.
            steps: how many steps.
            whole: steps of the whole cell.
        """
        share = steps / whole
        size, watched = cell.size, self.snapshots(cell) * (self.config.train.monitor_points - 2)
        work = self._own_answers(method, size, passes) if method.is_online else self._data_responses(method, size)
        generated = work.generate_tokens + watched * self.config.evaluate.max_new_tokens
        return Work(
            train_tokens=work.train_tokens * share,
            train_passes=steps,
            score_tokens=(work.score_tokens + self.monitor()) * share,
            generate_tokens=generated * share,
        )

    def validation(self, metric: str) -> Work:
        """Return what the metric that selects settings computes."""
        if metric != "reward":
            return Work(score_tokens=self.rows("validation") * self.tokens("validation", PAIR))
        prompts = self.prompts("validation")
        return Work(
            score_tokens=prompts * self.tokens("validation", ()),
            generate_tokens=prompts * self.config.evaluate.max_new_tokens,
        )

    def evaluation(self, splits: Sequence[str]) -> Work:
        """Return what the evaluation of a final cell on some splits computes."""
        answers, most = sum(map(self.prompts, splits)), self.config.evaluate.max_new_tokens
        scored = sum(self.pairs(name) * self.tokens(name, PAIR) for name in splits)
        # The prompt is read three times: to decode, and to score the answer under the policy and its start point.
        return Work(
            score_tokens=scored + answers * (3 * self.tokens("test", ()) + 2 * most), generate_tokens=answers * most
        )

    def diagnosis(self, rows: int, prompts: int, *, greedy: bool) -> Work:
        """Return what a diagnosis computes; a start point's samples greedy answers too."""
        pair = self.tokens("test", PAIR)  # about four pairs of responses, and an answer under two models
        generated = rows * self.config.evaluate.max_new_tokens if greedy else 0.0
        return Work(score_tokens=4 * rows * pair + 2 * prompts * pair, generate_tokens=generated)

    def _data_responses(self, method: Method, size: int) -> Work:
        tokens = size * self.config.train.epochs * self.tokens("train", roles_of(method))
        return Work(train_tokens=tokens, score_tokens=tokens if needs_live_reference(method) else 0.0)

    def _own_answers(self, method: Method, size: int, passes: int) -> Work:
        """Return what training on own answers computes; they are taken to be as long as the data's chosen responses."""
        online, prompts = self.config.online, size * self.config.train.epochs
        prompt, most = self.tokens("train", ()), self.config.evaluate.max_new_tokens
        answer = min(self.tokens("train", ("chosen",)) - prompt, most)
        flat = prompts * (prompt + online.samples * answer)
        trained = prompts * (prompt + 2 * answer) if method.own_answers else flat
        judged = prompts * online.samples * (prompt + answer) if self.config.online_reward == "model" else 0.0
        # Own answers are scored under the policy and under the start point before they are trained on.
        return Work(
            train_tokens=passes * trained,
            score_tokens=2 * flat + judged + prompts * online.samples * prompt,
            generate_tokens=prompts * online.samples * most,
        )
