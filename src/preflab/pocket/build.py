"""The whole pocket world from nothing: corpus, tokenizer, two models, preference data."""

import gzip
import json
import platform
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from preflab.core.ids import file_digest
from preflab.core.seeds import derive
from preflab.pocket import corpus
from preflab.pocket.pairs import Candidates, make_pairs, written_candidates
from preflab.pocket.rewards import gold_reward
from preflab.pocket.sampler import sample
from preflab.pocket.splits import interleave, splits
from preflab.pocket.tasks import FAMILIES, Task
from preflab.pocket.tokenizer import make_tokenizer, vocabulary
from preflab.pocket.training import (
    Recipe,
    Report,
    Tokens,
    conversation_tokens,
    document_tokens,
    mix,
    new_model,
    train,
)

DOCUMENT_SHARE: Final = 0.5
"""Share of plain documents among the base model's tokens; the rest are dialogues."""
N_CANDIDATES: Final = 6
"""Responses per prompt from which a pair's best and worst are taken."""
NOISE: Final = 0.05
"""Share of swapped labels in the default training pairs."""
NOISY: Final = 0.3
"""Share of swapped labels in `pairs_noisy`."""
MIN_GAP: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """Size of a build; the defaults made the shipped assets.

    Args:
        seed: of everything.
        base_steps: optimizer steps of pre-training, 2,048 tokens each.
        instruct_steps: further steps that make the instruct model.
        sft_rows: demonstrations in the study's SFT set.
        pairs: on-policy prompts, and as many off-policy ones.
        held_out: most rows in each of validation, test and ood.
    """

    seed: int = 0
    base_steps: int = 6000
    instruct_steps: int = 1000
    sft_rows: int = 2048
    pairs: int = 2048
    held_out: int = 10_000


def chunks(items: Iterator[Any], encode: Callable[[list[Any]], list[Tokens]], n: int = 200) -> Iterator[Tokens]:
    """Yield tokens of an endless stream of texts, encoded `n` at a time."""
    while True:
        yield from encode(list(islice(items, n)))


def build(out: Path, settings: BuildSettings, report: Report) -> Path:
    """Make the pocket world.

    One thread and float32 throughout, so that one machine repeats it bit for bit.

    Args:
        out: folder to make; gets `base/`, `instruct/`, `data/` and `manifest.json`.
        settings: sizes and seed.
        report: called with lines of progress.

    Returns:
        `out`.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    seed = settings.seed
    tokenizer = make_tokenizer(vocabulary(derive(seed, "vocabulary")))
    report(f"tokenizer: {len(tokenizer)} tokens")
    base = _train_base(tokenizer, settings, report)
    save(base, tokenizer, out / "base")
    demonstrations = sft_rows(settings)
    write_rows(out / "data" / "sft.jsonl.gz", demonstrations)
    sft = fine_tune_on(base, tokenizer, demonstrations)
    instruct = _train_instruct(base, tokenizer, settings, report)
    save(instruct, tokenizer, out / "instruct")
    models = {"base": base, "sft": sft, "instruct": instruct}
    _write_pairs(out / "data", models, tokenizer, settings, report)
    _write_held_out(out / "data", models, tokenizer, settings)
    report("measuring the start points")
    accuracies = {name: measure(model, tokenizer, settings) for name, model in models.items()}
    _write_manifest(out, settings, accuracies, time.perf_counter() - started)
    return out


def _train_base(tokenizer: Any, settings: BuildSettings, report: Report) -> Any:
    model = new_model(tokenizer, derive(settings.seed, "init") % 2**32)
    report(f"base: {model.num_parameters():,} parameters, {settings.base_steps} steps")
    rng = random.Random(derive(settings.seed, "base"))
    texts = chunks(corpus.documents(random.Random(rng.random())), lambda t: document_tokens(t, tokenizer))
    dialogues = chunks(
        corpus.mixed_dialogues(random.Random(rng.random())),
        lambda c: conversation_tokens(c, tokenizer, all_tokens=True),
    )
    stream = mix(rng, (texts, dialogues), (DOCUMENT_SHARE, 1 - DOCUMENT_SHARE))
    train(model, stream, Recipe(n_steps=settings.base_steps, learning_rate=3e-3), report)
    return model


def _train_instruct(base: Any, tokenizer: Any, settings: BuildSettings, report: Report) -> Any:
    model = copy_of(base)
    report(f"instruct: {settings.instruct_steps} steps")
    stream = chunks(
        corpus.instructions(random.Random(derive(settings.seed, "instruct"))),
        lambda c: conversation_tokens(c, tokenizer, all_tokens=False),
    )
    train(model, stream, Recipe(n_steps=settings.instruct_steps, learning_rate=1e-3), report)
    return model


def copy_of(model: Any) -> Any:
    """Return an independent copy of a model."""
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def sft_rows(settings: BuildSettings) -> list[dict[str, Any]]:
    """Return the study's demonstrations: train prompts with good, not perfect, responses."""
    rng = random.Random(derive(settings.seed, "sft"))
    tasks = _round_robin(rng, settings.sft_rows)
    return [
        {
            "prompt": [{"role": "user", "content": task.prompt}],
            "completion": corpus.answer(rng, task, corpus.DEMONSTRATED),
            "family": task.family,
            "meta": dict(task.meta),
        }
        for task in tasks
    ]


def fine_tune_on(base: Any, tokenizer: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """Return the base model after one epoch on demonstrations, as a study's SFT stage does it."""
    model = copy_of(base)
    talks = [[*row["prompt"], {"role": "assistant", "content": row["completion"]}] for row in rows]
    tokens = conversation_tokens(talks, tokenizer, all_tokens=False)
    n_steps = max(1, sum(len(t.ids) for t in tokens) // 1024)

    def endless() -> Iterator[Tokens]:
        while True:
            yield from tokens

    train(model, endless(), Recipe(n_steps=n_steps, learning_rate=1e-3, rows=8), lambda _: None)
    return model


def _round_robin(rng: random.Random, n: int) -> list[Task]:
    """Return `n` train tasks, families in turn, prompts in random order."""
    groups = {family: [t for t in splits()["train"] if t.family == family] for family in FAMILIES}
    return list(interleave({f: rng.sample(tasks, len(tasks)) for f, tasks in groups.items()}))[:n]


def _on_policy(models: dict[str, Any], tokenizer: Any, tasks: Sequence[Task], seed: int) -> list[Candidates]:
    """Sample candidates for every task from one of the start points in turn."""
    items: dict[str, Candidates] = {}
    for i, (name, model) in enumerate(models.items()):
        mine = tasks[i :: len(models)]
        answers = sample(model, tokenizer, mine, n=N_CANDIDATES, seed=derive(seed, "sample", name) % 2**32)
        for task, texts in zip(mine, answers, strict=True):
            items[task.prompt] = Candidates(task, tuple(texts), name)
    return [items[task.prompt] for task in tasks]


def _write_pairs(folder: Path, models: dict[str, Any], tokenizer: Any, settings: BuildSettings, report: Report) -> None:
    seed = derive(settings.seed, "pairs")
    tasks = _round_robin(random.Random(seed), 2 * settings.pairs)
    report(f"pairs: sampling {settings.pairs} x {N_CANDIDATES} responses")
    # Families come in turn, six of them: blocks of six keep both halves balanced.
    on_tasks = [task for i, task in enumerate(tasks) if i // len(FAMILIES) % 2 == 0]
    off_tasks = [task for i, task in enumerate(tasks) if i // len(FAMILIES) % 2 == 1]
    on = _on_policy(models, tokenizer, on_tasks, seed)
    off = list(written_candidates(off_tasks, n=N_CANDIDATES, seed=seed))
    both = [item for pair in zip(on, off, strict=False) for item in pair]
    pairs = partial(make_pairs, seed=seed, min_gap=MIN_GAP)
    write_rows(folder / "pairs.jsonl.gz", pairs(both, noise=NOISE))
    write_rows(folder / "pairs_on.jsonl.gz", pairs(on, noise=NOISE))
    write_rows(folder / "pairs_off.jsonl.gz", pairs(off, noise=NOISE))
    write_rows(folder / "pairs_noisy.jsonl.gz", pairs(both, noise=NOISY))
    write_rows(folder / "pairs_long.jsonl.gz", pairs(both, length_bias=1.0))


def _write_held_out(folder: Path, models: dict[str, Any], tokenizer: Any, settings: BuildSettings) -> None:
    """Write validation, test and ood: every prompt with a clean pair, half of them on-policy as in training."""
    for name in ("validation", "test", "ood"):
        seed = derive(settings.seed, name)
        tasks = list(splits()[name][: settings.held_out])
        on = {c.task.prompt: c for c in _on_policy(models, tokenizer, tasks[::2], seed)}
        rows = []
        for task in tasks:
            [written] = written_candidates([task], n=N_CANDIDATES, seed=seed)
            sampled = [on[task.prompt]] if task.prompt in on else []
            # A prompt whose samples all earn the same still needs a pair: right against wrong, as written.
            last = Candidates(task, (task.right[0], task.wrong[0]), "program")
            rows.append(next(r for c in (*sampled, written, last) for r in make_pairs([c], seed=seed, min_gap=MIN_GAP)))
        write_rows(folder / f"{name}.jsonl.gz", rows)


def measure(model: Any, tokenizer: Any, settings: BuildSettings, n: int = 2) -> dict[str, dict[str, dict[str, float]]]:
    """Return, per split and family, how often sampled responses are right and their mean gold reward."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for split in ("test", "ood"):
        tasks = splits()[split][: settings.held_out]
        answers = sample(model, tokenizer, tasks, n=n, seed=derive(settings.seed, "measure", split) % 2**32)
        judged = [
            (t.family, gold_reward((), a, t.meta)) for t, texts in zip(tasks, answers, strict=True) for a in texts
        ]
        result[split] = {}
        for family in FAMILIES:
            mine = [gold for name, gold in judged if name == family]
            right = sum(gold["right"] == 1.0 for gold in mine) / len(mine)
            reward = sum(gold["reward"] for gold in mine) / len(mine)
            result[split][family] = {"right": round(right, 3), "reward": round(reward, 3), "n": len(mine)}
    return result


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model in half precision, to be small, with a configuration that loads it in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    # The LM head is the embedding (tied), so it is not stored twice.
    weights = {name: value.half() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    model.config.dtype = torch.float32
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as compressed JSONL whose bytes depend on the rows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _write_manifest(out: Path, settings: BuildSettings, start_points: dict[str, Any], wall_s: float) -> None:
    import transformers

    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "manifest.json")
    manifest = {
        "settings": asdict(settings),
        "start_points": start_points,
        "wall_s": round(wall_s, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "files": {p.relative_to(out).as_posix(): file_digest(p) for p in files},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
