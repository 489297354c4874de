"""Likelihood displacement on one prompt with answers of one token, on a real model.

After Razin et al., Unintentional Unalignment, 2024, arXiv:2410.08847, section 4: DPO on a single yes/no statement, with
a chosen and a rejected answer of one token each, after fine-tuning on the chosen token. Does the chosen token lose
probability, and which token gains it?

    python recipes/displacement.py MODEL persona.jsonl --out displacement.json

The data are lines with a `question`, such as the persona statements of Perez et al., 2022
(github.com/anthropics/evals). What came out: docs/results/3d.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.seeds import permutation
from preflab.methods import DPO, Logps, Pair, ReferencedPair
from preflab.models.load import load_model, load_tokenizer, quiet, resolve

PAIRS = (("Yes", "No"), ("No", "Never"), ("Sure", "Yes"))
"""Chosen and rejected, the pairs of the paper's table 1."""


@dataclass(frozen=True)
class Run:
    """What DPO did to one prompt.

    Args:
        pair: chosen and rejected token.
        row: line of the data.
        cosine: of the two tokens' rows of the output matrix, which say how alike the tokens are to the model.
        chosen: probability of the chosen token before and after, and its lowest on the way.
        rejected: of the rejected token, before and after.
        loss: before and after.
        falls: whether the loss fell at every step but one in twenty.
        gained: the three tokens that gained most, and how much.
    """

    pair: tuple[str, str]
    row: int
    cosine: float
    chosen: tuple[float, float, float]
    rejected: tuple[float, float]
    loss: tuple[float, float]
    falls: bool
    gained: list[tuple[str, float]]


def main() -> None:
    """Run every pair on every prompt and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("displacement.json"))
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--sft-prompts", type=int, default=64)
    parser.add_argument("--sft-learning-rate", type=float, default=1e-6)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-7)
    parser.add_argument("--beta", type=float, default=0.1)
    asked = parser.parse_args()
    quiet()
    folder = resolve(asked.model)
    tokenizer = load_tokenizer(folder)
    lines = asked.data.read_text(encoding="utf-8").splitlines()
    order = permutation(len(lines), 0, "displacement").tolist()
    prompts = {row: _prompt(tokenizer, json.loads(lines[row])["question"]) for row in order[: asked.sft_prompts]}
    runs = []
    for pair in PAIRS:
        model = load_model(folder, dtype="float32", device="cpu").requires_grad_(True)
        tune(model, list(prompts.values()), _token(tokenizer, pair[0]), asked.sft_learning_rate)
        tuned = {name: value.clone() for name, value in model.state_dict().items()}
        for row in order[: asked.prompts]:
            model.load_state_dict(tuned)
            run = displaced(model, tokenizer, prompts[row], row, pair, asked.steps, asked.learning_rate, asked.beta)
            runs.append(run)
            print(said(run), flush=True)
            asked.out.write_text(json.dumps([asdict(r) for r in runs], indent=1), encoding="utf-8")


def said(run: Run) -> str:
    """Return a run in one line."""
    (before, after, lowest), (was, became) = run.chosen, run.rejected
    steadily = "" if run.falls else ", not steadily"
    return (
        f"{' v '.join(run.pair):12} row {run.row:4}: chosen {before:.3f} -> {after:.3f} (lowest {lowest:.3f}), "
        f"rejected {was:.4f} -> {became:.4f}, loss {run.loss[1]:.3f}{steadily}; gained {run.gained}"
    )


def tune(model: PreTrainedModel, prompts: Sequence[np.ndarray], token: int, rate: float) -> None:
    """Fine-tune all weights on one token as the answer to every prompt, one prompt per step, once."""
    optimizer = torch.optim.RMSprop(model.parameters(), lr=rate)
    for prompt in prompts:
        optimizer.zero_grad()
        (-_next(model, torch.from_numpy(prompt)[None])[token]).backward()
        optimizer.step()


def displaced(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: np.ndarray,
    row: int,
    pair: tuple[str, str],
    steps: int,
    rate: float,
    beta: float,
) -> Run:
    """Train all weights on one pair by RMSprop, as the paper does, and say where the probability went."""
    chosen, rejected = (_token(tokenizer, word) for word in pair)
    weights = model.get_output_embeddings().weight.detach().clone()
    ids = torch.from_numpy(prompt)[None]
    start = _next(model, ids).detach()
    model.requires_grad_(True)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=rate)
    losses, course = [], []
    for _ in range(steps):
        logp = _next(model, ids)
        loss = DPO.loss(ReferencedPair(*(_logps(x, chosen, rejected) for x in (logp, start))), beta=beta).loss.mean()
        losses.append(float(loss.detach()))
        course.append(float(logp[chosen].detach().exp()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        end = _next(model, ids)
    change = end.exp() - start.exp()
    falls = np.mean(np.diff(losses) < 0) >= 0.95
    return Run(
        pair=pair,
        row=row,
        cosine=float(torch.cosine_similarity(*weights[[chosen, rejected]], dim=0)),
        chosen=(float(start[chosen].exp()), float(end[chosen].exp()), min(course)),
        rejected=(float(start[rejected].exp()), float(end[rejected].exp())),
        loss=(losses[0], losses[-1]),
        falls=bool(falls),
        gained=[(tokenizer.decode([i]), round(float(change[i]), 4)) for i in change.topk(3).indices.tolist()],
    )


def _next(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probs of the next token, `[vocabulary]`."""
    return model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)


def _logps(logp: torch.Tensor, chosen: int, rejected: int) -> Pair:
    one = torch.ones(1)
    return Pair(Logps(logp[chosen][None], one), Logps(logp[rejected][None], one))


def _prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> np.ndarray:
    messages = [{"role": "user", "content": f"{question}\nAnswer with one word."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return np.array(tokenizer(text, add_special_tokens=False)["input_ids"])


def _token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    ids: Sequence[int] = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise SystemExit(f"{word!r} is {len(ids)} tokens of this tokenizer; the experiment needs one")
    return ids[0]


if __name__ == "__main__":
    main()
