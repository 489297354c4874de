"""The policy's own answers as a source of rows: sampled, judged, and kept until every pass over them is done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from preflab.data.examples import SAMPLED, TokenRow
from preflab.methods import Credit, Episodes, Method, TokenLogps
from preflab.methods.needs import needs_values
from preflab.models.policies import Policy
from preflab.sampling.generate import Response
from preflab.scoring.flat import fill
from preflab.scoring.logps import score
from preflab.train.lockstep import Asked, Forward, Run
from preflab.train.step import References

Judged = Mapping[str, float | None]
"""What is said of an answer: `reward`, which is trained on, and `gold`, which is only watched; None where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """Where answers and rewards come from.

    Args:
        samples: answers to each prompt, at least 2.
        round: prompts that are answered by the same weights before anything is trained on the answers, a multiple of
            the batch size.
        answer: `answer(model, rows, keys)` samples an answer to the prompt of each row; keys name random numbers.
        judge: `judge(rows, answers)` says what each answer is worth.
    """

    samples: int
    round: int
    answer: Callable[[PreTrainedModel, Sequence[TokenRow], Sequence[str]], Sequence[Response]]
    judge: Callable[[Sequence[TokenRow], Sequence[Response]], Sequence[Judged]]


class Place(NamedTuple):
    """Where a step of a run on own answers stands."""

    epoch: int
    round: int
    """Counted from 0 over the whole run."""
    prompts: slice
    """The round's prompts in the order of the epoch."""
    batch: slice
    """The step's prompts among those of the round."""


def place_of(step: int, n: int, *, round_size: int, batch_size: int, passes: int) -> Place:
    """Return where a step stands: a round takes all its passes, batch by batch, before the next one begins.

    Args:
        step: counted from 0.
        n: training rows.
        round_size: prompts of a round, a multiple of `batch_size`; the last one of an epoch may have fewer.
        batch_size: prompts of a step.
        passes: over each round.
    """
    epoch, within = divmod(step, passes * -(-n // batch_size))
    number, inside = divmod(within, passes * round_size // batch_size)
    prompts = slice(number * round_size, min(n, (number + 1) * round_size))
    batch = inside % -(-(prompts.stop - prompts.start) // batch_size)
    at = epoch * -(-n // round_size) + number
    return Place(epoch, at, prompts, slice(batch * batch_size, (batch + 1) * batch_size))


@dataclass(frozen=True, slots=True)
class Rollout:
    """The answers to one round's prompts, as arrays that a checkpoint can hold.

    Args:
        arrays: `round` (`[1]`), `numbers` (of the prompts among the training rows, int64 `[prompt]`), `length` (int64
            `[answer]`, prompt by prompt), `tokens` (int64 `[token]`, answer by answer), `reward` (float64 `[answer]`);
            float32 `[token]`: `behaviour` and `reference` (nats), and where the method has them `old_value`,
            `advantage` and `returns`.
    """

    arrays: Mapping[str, NDArray[Any]]

    @property
    def round(self) -> int:
        """Which round it is."""
        return int(self.arrays["round"][0])

    def rows(self, rows: Sequence[TokenRow], batch: slice) -> list[TokenRow]:
        """Return the prompts of a batch with their answers."""
        tokens = self._of("tokens", batch)
        return [
            TokenRow(rows[n].row, rows[n].prompt, {role: found[i] for role, found in tokens.items()})
            for i, n in enumerate(self.arrays["numbers"][batch])
        ]

    def known(self, batch: slice) -> dict[str, References]:
        """Return what is known of every token of a batch's answers: quantity to role to one array per prompt."""
        names = ("behaviour", "reference", "old_value", "advantage", "returns")
        return {name: self._of(name, batch) for name in names if name in self.arrays}

    def pairs(self, rows: Sequence[TokenRow], batch: slice) -> tuple[list[TokenRow], References]:
        """Return the best against the worst answer to each prompt of a batch, and the reference's log-probs of them.

        A prompt whose answers all have one reward gives no pair.
        """
        logps = self._of("reference", batch)
        found: list[TokenRow] = []
        references: dict[str, list[NDArray[np.float32]]] = {"chosen": [], "rejected": []}
        for i, (row, rewards) in enumerate(zip(self.rows(rows, batch), self._rewards()[batch], strict=True)):
            ends = {"chosen": SAMPLED[int(rewards.argmax())], "rejected": SAMPLED[int(rewards.argmin())]}
            if rewards.max() > rewards.min():
                found.append(TokenRow(row.row, row.prompt, {side: row.responses[role] for side, role in ends.items()}))
                for side, role in ends.items():
                    references[side].append(logps[role][i])
        return found, references

    def _rewards(self) -> NDArray[np.float64]:
        """Return the rewards, `[prompt, sample]`."""
        return self.arrays["reward"].reshape(len(self.arrays["numbers"]), -1)

    def _of(self, name: str, batch: slice) -> dict[str, list[NDArray[Any]]]:
        parts = np.split(self.arrays[name], np.cumsum(self.arrays["length"])[:-1])
        samples = self._rewards().shape[1]
        return {SAMPLED[k]: parts[k::samples][batch] for k in range(samples)}


@dataclass(frozen=True, slots=True)
class Sampler:
    """Samples rollouts from a cell's weights as they are.

    Args:
        policy: the weights.
        cell: whose.
        reference: the frozen reference; under adapters the policy's own model.
        online: where answers and rewards come from.
    """

    policy: Policy
    cell: int
    reference: PreTrainedModel
    online: Online

    def sample(
        self,
        place: Place,
        numbers: NDArray[np.int64],
        rows: Sequence[TokenRow],
        method: Method,
        hyperparameters: Mapping[str, Any],
        *,
        budget: int,
    ) -> Run[tuple[Rollout, list[dict[str, Any]]]]:
        """Answer the prompts of a round, judge the answers, and say what each token was worth.

        Args:
            place: the round.
            numbers: its prompts among the training rows, int64 `[prompt]`.
            rows: the training rows.
            method: decides what rewards say about tokens.
            hyperparameters: its own.
            budget: flat tokens per forward.

        Returns:
            The rollout, and one record per answer: `round`, `row`, `sample`, `reward`, `gold`, `n_tokens`, `truncated`,
            and the divergence from the reference in nats, `kl_k1` and `kl_k3`.
        """
        roles = SAMPLED[: self.online.samples]
        asked = [(rows[n], k) for n in numbers for k in range(len(roles))]
        prompts = [row for row, _ in asked]
        with self.policy.alone(self.cell):
            keys = [f"{row.row}/{place.round}/{k}" for row, k in asked]
            answers = self.online.answer(self.policy.model, prompts, keys)
        judged = self.online.judge(prompts, answers)
        arrays: dict[str, NDArray[Any]] = {
            "round": np.array([place.round]),
            "numbers": np.asarray(numbers, dtype=np.int64),
            "length": np.array([len(answer.tokens) for answer in answers], dtype=np.int64),
            "tokens": np.concatenate([answer.tokens for answer in answers]),
            "reward": np.array([said["reward"] for said in judged], dtype=np.float64),
        }
        answered = Rollout(arrays).rows(rows, slice(None))
        quantities: tuple[Asked, ...] = ("policy", "value") if needs_values(method) else ("policy",)
        arrays["behaviour"], *value = yield from _scored(answered, roles, quantities, budget)
        arrays |= dict(zip(["old_value"], value, strict=False))
        with self.policy.rows({}):
            theirs = score(self.reference, answered, roles, budget=budget)
        arrays["reference"] = np.concatenate([theirs[role][i] for i in range(len(numbers)) for role in roles])
        if method.credit is not None:
            credit: Credit = method.credit(_episodes(arrays), **hyperparameters)
            arrays |= {name: part.float().numpy() for name, part in credit._asdict().items() if part is not None}
        return Rollout(arrays), list(_records(place.round, asked, answers, judged, arrays))


def _scored(
    rows: Sequence[TokenRow], roles: Sequence[str], quantities: Sequence[Asked], budget: int
) -> Run[NDArray[np.float32]]:
    """Return quantities of every token of all answers under the weights as they are, `[quantity, token]`."""
    parts: dict[tuple[int, str], NDArray[np.float32]] = {}
    for group in fill(rows, roles, budget):
        scored = yield Forward(rows=[rows[i] for i in group], roles=roles, quantities=quantities)
        assert scored is not None
        found = scored.values.float().cpu().split(scored.length.long().tolist(), dim=1)
        parts |= {(group[key.row], key.role): part.numpy() for key, part in zip(scored.keys, found, strict=True)}
    return np.concatenate([parts[i, role] for i in range(len(rows)) for role in roles], axis=1)


def _episodes(arrays: Mapping[str, NDArray[Any]]) -> Episodes:
    length = torch.from_numpy(arrays["length"]).double()
    prompt = torch.arange(len(arrays["numbers"])).repeat_interleave(len(length) // len(arrays["numbers"]))

    def tokens(name: str) -> TokenLogps:
        return TokenLogps(torch.from_numpy(arrays[name]).double(), length)

    value = tokens("old_value") if "old_value" in arrays else None
    return Episodes(torch.from_numpy(arrays["reward"]), prompt, tokens("behaviour"), tokens("reference"), value)


def _records(
    at: int,
    asked: Sequence[tuple[TokenRow, int]],
    answers: Sequence[Response],
    judged: Sequence[Judged],
    arrays: Mapping[str, NDArray[Any]],
) -> Iterator[dict[str, Any]]:
    ratios = arrays["behaviour"].astype(np.float64) - arrays["reference"]
    parts = np.split(ratios, np.cumsum(arrays["length"])[:-1])
    for (row, k), answer, said, ratio in zip(asked, answers, judged, parts, strict=True):
        yield {
            "round": at,
            "row": row.row,
            "sample": k,
            **said,
            "n_tokens": len(answer.tokens),
            "truncated": answer.truncated,
            "kl_k1": float(ratio.sum()),
            "kl_k3": float(np.sum(np.exp(-ratio) - 1 + ratio)),
        }
