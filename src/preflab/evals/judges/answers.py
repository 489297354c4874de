"""What is judged: items with one or more turns, and the answers that models gave to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preflab.core.errors import DataError
from preflab.core.ids import content_id
from preflab.data import files
from preflab.data.examples import Message
from preflab.data.problems import listing
from preflab.data.prompts import prompt_text


@dataclass(frozen=True, slots=True)
class Item:
    """What was asked.

    Args:
        id: name of the item, the same in every file of answers.
        turns: the user's turns, at least one.
        category: kind of task, such as MT-Bench's `math`.
        references: good answers for the judge to compare with, one per turn, or none; one that is not known is empty.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered.

    Args:
        name: the model's name in tables.
        items: what it was asked, by id.
        responses: its answers by item id, one text per turn.
    """

    name: str
    items: Mapping[str, Item]
    responses: Mapping[str, tuple[str, ...]]


def read_answers(path: Path, questions: Mapping[str, Item] | None = None) -> Answers:
    """Read one model's answers; the file's name without suffix becomes the model's name.

    Rows hold `prompt` (a text, a list of texts for several turns, or messages) and `response` (a text, or a list of
    texts, one per turn); `id`, `category` and `reference` are optional. With `questions` they may instead hold
    `question_id` and `choices` whose first has `turns`, as FastChat writes them.

    Args:
        path: JSONL, JSON, CSV or Parquet.
        questions: items by id, for files that hold no prompts.

    Raises:
        DataError: a file or row that cannot be read, the same item twice, or another number of answers than turns.
    """
    items: dict[str, Item] = {}
    responses: dict[str, tuple[str, ...]] = {}
    for place, row in _rows(path):
        if "choices" in row and "question_id" in row:
            item, answer = _asked(str(row["question_id"]), questions, place), _first_choice(row, place)
        else:
            item, answer = _item(row, place), _texts(row.get("response"), "response", place, may_be_empty=True)
        if len(answer) != len(item.turns):
            raise DataError(f"{place}: {len(item.turns)} turn(s) need as many responses; got {len(answer)}.")
        if item.id in items:
            raise DataError(f"{place}: the item {item.id!r} is answered twice; keep one row of it.")
        items[item.id], responses[item.id] = item, answer
    return Answers(path.stem, items, responses)


def read_questions(path: Path, references: Path | None = None) -> dict[str, Item]:
    """Read questions as FastChat keeps MT-Bench's: `question_id`, `category`, `turns`, perhaps `reference`.

    Args:
        path: the questions.
        references: answers of a strong model in FastChat's format, which take the place of the questions' own.

    Returns:
        Items by id, in the order of the file.

    Raises:
        DataError: a file or row that cannot be read.
    """
    given = {} if references is None else {
        str(row.get("question_id")): _first_choice(row, place) for place, row in _rows(references)
    }  # fmt: skip
    items = {}
    for place, row in _rows(path):
        if "question_id" not in row:
            raise DataError(f"{place}: a question needs question_id and turns; got {', '.join(map(str, row))}.")
        id_, turns = str(row["question_id"]), _texts(row.get("turns"), "turns", place)
        own = _references(row, place) if references is None else ()
        items[id_] = Item(id_, turns, str(row.get("category") or ""), given.get(id_, own))
    return items


def common_items(models: Sequence[Answers]) -> list[Item]:
    """Return the items that all models answered, in the order of the first; every model has all of them.

    Raises:
        DataError: models that answered different items, because rates over different items cannot be compared.
    """
    first, *others = models
    for other in others:
        if other.items.keys() != first.items.keys():
            lone = next(iter(first.items.keys() ^ other.items.keys()))
            raise DataError(
                f"{other.name}: other items than in {first.name}, such as {lone!r}; let all models answer the same."
            )
        for id_, item in first.items.items():
            if other.items[id_].turns != item.turns:
                raise DataError(f"{other.name}: the item {id_!r} asks something else than that of {first.name}.")
    if not first.items:
        raise DataError(f"{first.name}: no answers to judge.")
    return list(first.items.values())


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Return place (`file:row`) and values of every row."""
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    loaded = files.load(str(path), split="train", subset=None, revision=None)
    if loaded.problems:
        raise DataError(f"{path}: cannot be read, {len(loaded.problems)} problem(s):\n{listing(loaded.problems)}")
    return [(f"{part.file}:{row}", values) for part in loaded.parts for row, values in part.records]


def _item(row: Mapping[str, Any], place: str) -> Item:
    turns = _texts(row.get("prompt"), "prompt", place)
    id_ = content_id(list(turns))[:16] if row.get("id") is None else str(row["id"])
    return Item(id_, turns, str(row.get("category") or ""), _references(row, place))


def _references(row: Mapping[str, Any], place: str) -> tuple[str, ...]:
    return _texts(row["reference"], "reference", place, may_be_empty=True) if row.get("reference") else ()


def _texts(value: Any, name: str, place: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return the texts of a cell: one, a list of them, or one conversation."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        turns = [(each.get("role"), each.get("content")) for each in value]
        if all(isinstance(part, str) for turn in turns for part in turn):
            value = prompt_text(tuple(Message(*turn) for turn in turns))
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not texts or not all(isinstance(text, str) and (may_be_empty or text.strip()) for text in texts):
        raise DataError(
            f"{place}: {name} must be a text or a list of texts, one per turn; got {files.describe(value)}."
        )
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise DataError(
            f"{place}: {name} holds half a character (a lone surrogate), which cannot be sent; mend the row."
        )
    return texts


def _asked(id_: str, questions: Mapping[str, Item] | None, place: str) -> Item:
    if questions is None or id_ not in questions:
        raise DataError(f"{place}: question {id_} is not known; name the file of questions (--questions).")
    return questions[id_]


def _first_choice(row: Mapping[str, Any], place: str) -> tuple[str, ...]:
    try:
        turns = row["choices"][0]["turns"]
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{place}: choices must be a list whose first entry has turns.") from None
    return _texts(turns, "turns", place, may_be_empty=True)
