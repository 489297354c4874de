"""Files of answers for judges: MT-Bench's questions in two turns, or prompts of one's own, answered by any model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import preflab
from preflab.core.errors import ConfigError, DataError
from preflab.core.ids import content_id
from preflab.data.examples import Example, Message
from preflab.data.read import read
from preflab.data.render import Refused
from preflab.evals.benchmarks.files import data_folder
from preflab.evals.judges.answers import read_questions
from preflab.evals.judges.mt_bench import answer_temperature
from preflab.store.artefacts import write_json, write_text
from preflab.studies.answers import Answerer, Say, Settings, sampled

QUESTIONS, REFERENCES = "mt_bench_questions.jsonl", "mt_bench_references.jsonl"
"""Files of the benchmark folder; they are FastChat's `question.jsonl` and `reference_answer/gpt-4.jsonl`."""
Turns = tuple[tuple[Message, ...], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation that a model is led through.

    Args:
        row: what the file of answers says of it: the prompt and, of a question, id, category and reference.
        turns: what is said before each answer.
        temperature: of its answers.
    """

    row: Mapping[str, Any]
    turns: Turns
    temperature: float


def mt_bench(data_dir: Path | None) -> list[Asked]:
    """Return MT-Bench's questions, with the reference answers where their file is there.

    Raises:
        ConfigError: a folder was named that is not there.
        DataError: no file of questions, or one that cannot be read.
    """
    folder = data_folder(data_dir)
    if not (folder / QUESTIONS).exists():
        raise DataError(
            f"{folder / QUESTIONS}: no such file; put FastChat's fastchat/llm_judge/data/mt_bench/question.jsonl there."
        )
    references = folder / REFERENCES
    items = read_questions(folder / QUESTIONS, references if references.exists() else None)
    found = []
    for item in items.values():
        row = {"id": item.id, "category": item.category, "prompt": list(item.turns)}
        row |= {"reference": list(item.references)} if item.references else {}
        turns = tuple((Message("user", text),) for text in item.turns)
        found.append(Asked(row, turns, answer_temperature(item.category)))
    return found


def prompts(path: str) -> list[Asked]:
    """Return the distinct prompts of a file; a text becomes one turn of a user.

    Raises:
        DataError: a file that cannot be read, or that holds no prompt.
    """
    examples = read(path, kind="prompts").examples
    found = []
    for prompt in dict.fromkeys(example.prompt for example in examples):
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        shown = prompt if isinstance(prompt, str) else [turn._asdict() for turn in prompt]
        found.append(Asked({"prompt": shown}, (messages,), answer_temperature("")))
    if not found:
        raise DataError(f"{path}: holds no prompt; rows need a column prompt or messages.")
    return found


def write_answers(model: str, asked: Sequence[Asked], out: Path, settings: Settings, *, say: Say) -> dict[str, Any]:
    """Lead a model through conversations, write a file that judges read, and return an account of it.

    Answers are committed as they come, so that the same command continues what was stopped. Beside the file lies the
    account, under its name with `.about` behind.

    Args:
        model: folder, adapter, Hub id or pocket model.
        asked: the conversations.
        out: JSONL file with one row per conversation; its name without suffix is what judges call the model.
        settings: how answers are sampled.
        say: called with lines of progress.

    Raises:
        ConfigError: no such model, a context too short, or a file of that name with other content.
        DataError: a prompt that the chat template refuses.
    """
    for name in ("max_new_tokens", "batch_size"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1; got {getattr(settings, name)}.")
    if out.suffix != ".jsonl":
        raise ConfigError(f"{out}: must end in .jsonl; the name before it is what tables call the model.")
    answerer = Answerer.named(model, settings)
    _check_room(answerer, asked)
    answers, cut = _converse(answerer, asked, say)
    rows = [
        {**each.row, "response": texts if len(texts) > 1 else texts[0],
         "temperature": each.temperature, "seed": settings.seed, "truncated": truncated}
        for each, texts, truncated in zip(asked, answers, cut, strict=True)
    ]  # fmt: skip
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if out.exists() and out.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{out}: already there with other content; name another --out or move it away.")
    account = {
        "model": model,
        **answerer.digests,
        "asked": content_id([each.row for each in asked]),
        "conversations": len(rows),
        "answers": sum(map(len, answers)),
        "truncated": sum(map(sum, cut)),
        "empty": sum(not text for texts in answers for text in texts),
        "temperatures": {str(each.row.get("category", "")): each.temperature for each in asked},
        "seed": settings.seed,
        "max_new_tokens": settings.max_new_tokens,
        "engine": settings.engine,
        "preflab": preflab.__version__,
    }
    write_text(out, text)
    write_json(out.with_name(out.name + ".about"), account)
    return account


def _converse(answerer: Answerer, asked: Sequence[Asked], say: Say) -> tuple[list[list[str]], list[list[bool]]]:
    """Return the answers of each conversation, and whether each was cut."""
    spoken: list[tuple[Message, ...]] = [() for _ in asked]
    answers: list[list[str]] = [[] for _ in asked]
    cut: list[list[bool]] = [[] for _ in asked]
    for turn in range(max(len(each.turns) for each in asked)):
        for temperature in dict.fromkeys(each.temperature for each in asked):
            members = [i for i, e in enumerate(asked) if turn < len(e.turns) and e.temperature == temperature]
            examples = [Example(i + 1, spoken[i] + asked[i].turns[turn], None, None) for i in members]
            say(f"{answerer.name}: turn {turn + 1}, {len(members)} answers at temperature {temperature:g}")
            found = sampled(answerer, examples, "model", say, temperature=temperature)
            for i, example, (candidate,) in zip(members, examples, found, strict=True):
                answer = candidate.text.strip()  # chat templates and judges see no white space around it
                answers[i].append(answer)
                cut[i].append(candidate.truncated)
                assert not isinstance(example.prompt, str)
                spoken[i] = (*example.prompt, Message("assistant", answer))
    return answers, cut


def _check_room(answerer: Answerer, asked: Sequence[Asked]) -> None:
    """Refuse conversations that could outgrow the model's context, before the first answer.

    Raises:
        ConfigError: with the longest answer that would fit.
        DataError: a prompt that the chat template refuses.
    """
    context, longest = answerer.limits.max_tokens, answerer.settings.max_new_tokens
    fits = {}
    for number, each in enumerate(asked, start=1):
        name = str(each.row.get("id", number))
        whole = tuple(m for turn in each.turns[:-1] for m in (*turn, Message("assistant", ""))) + each.turns[-1]
        try:
            (tokens,) = answerer.prompts([Example(number, whole, None, None)])
        except Refused as error:
            raise DataError(f"prompt {name}: the chat template of {answerer.name} refuses it ({error}).") from error
        fits[name] = (context - len(tokens)) // len(each.turns)
    tightest = min(fits, key=lambda name: fits[name])
    if longest > fits[tightest]:
        raise ConfigError(
            f"--max-new-tokens {longest}: prompt {tightest} with such answers could outgrow the {context} positions of "
            f"{answerer.name}; " + (f"at most {fits[tightest]} fit." if fits[tightest] > 0 else "no answer fits.")
        )
