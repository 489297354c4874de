"""IFEval: does a response keep instructions that a program can check? All 25 kinds, strict and loose.

The rules are those of the published checker as lm-eval 0.4.13 runs it, written anew. Two parts differ, since the
original needs tables of NLTK that are downloaded: sentences are split by a rule here, and capital words found by a
regular expression.

References:
    Zhou et al., Instruction-Following Evaluation for Large Language Models, 2023, arXiv:2311.07911.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from preflab.core.errors import ConfigError, DataError

Arguments = Mapping[str, Any]


def check(values: Mapping[str, Any], response: str) -> dict[str, float]:
    """Return whether a response keeps all instructions of a row, and which share of them, strictly and loosely.

    Loosely, an instruction is kept if the response keeps it without its first line, its last line, or its asterisks.

    Args:
        values: the row: `prompt`, `instruction_id_list` and `kwargs`.
        response: what the model wrote.

    Raises:
        DataError: the row asks for an unknown kind.
        ConfigError: a kind needs a library that is not installed.
    """
    variants = [text for text in _variants(response) if text.strip()]
    strict, loose = [], []
    for kind, given in zip(values["instruction_id_list"], values["kwargs"], strict=True):
        arguments = {name: value for name, value in (given or {}).items() if value is not None}
        if kind not in CHECKS:
            raise DataError(f"ifeval: unknown kind of instruction {kind!r}; get the file again.")
        keeps = CHECKS[kind]
        strict.append(bool(response.strip()) and keeps(response, arguments))
        loose.append(any(keeps(text, arguments) for text in variants))
    return {
        "prompt_strict": float(all(strict)),
        "prompt_loose": float(all(loose)),
        "instruction_strict": sum(strict) / len(strict),
        "instruction_loose": sum(loose) / len(loose),
    }


def check_library() -> None:
    """Refuse the benchmark where the detection of languages is not installed.

    Raises:
        ConfigError: with what to install.
    """
    if importlib.util.find_spec("langdetect") is None:
        raise ConfigError("ifeval: needs langdetect, which tells languages apart: pip install 'preflab[ifeval]'.")


def _variants(response: str) -> list[str]:
    lines = response.split("\n")
    cut = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = [response, *("\n".join(part).strip() for part in cut[1:])]
    return [*texts, *(text.replace("*", "") for text in texts)]


def _compared(count: int, arguments: Arguments, than: str, relation: str = "relation") -> bool:
    if arguments[relation] == "less than":
        return count < int(arguments[than])
    return count >= int(arguments[than])


def _words(text: str) -> int:
    return len(re.findall(r"\w+", text))


_ABBREVIATIONS = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|No|Inc|Ltd|Co|Fig|al|approx|U\.S|a\.m|p\.m|[A-Z])\.$"
)


def sentences(text: str) -> int:
    """Return how many sentences a text has: stretches that end in . ! or ? before white space, or at the end.

    A full stop behind a common abbreviation, an initial or a number of a list does not end one.
    """
    count = 0
    for block in re.split(r"\n\s*\n", text):
        start = 0
        for end in re.finditer(r"[.!?]+[\"')\]*”’]*(?=\s|$)", block):
            piece = block[start : end.end()].strip()
            is_number = re.fullmatch(r"(?:.*\s)?\d+\.", piece, re.DOTALL) and len(piece.split()) == 1
            if piece and not _ABBREVIATIONS.search(piece) and not is_number:
                count += 1
                start = end.end()
        count += bool(block[start:].strip())
    return count


def _language(text: str) -> str:
    check_library()
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0  # it samples, and would answer differently from run to run
    try:
        return str(detect(text))
    except LangDetectException:
        return ""  # nothing to tell a language by


def _is_in(text: str, language: str) -> bool:
    return _language(text) in (language, "")


def _paragraphs(text: str, arguments: Arguments) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    empty = [place for place, part in enumerate(parts) if not part.strip()]
    if any(0 < place < len(parts) - 1 for place in empty):
        return False
    return len(parts) - len(empty) == int(arguments["num_paragraphs"])


def _first_word(text: str, arguments: Arguments) -> bool:
    parts = text.split("\n\n")
    n, nth = sum(bool(part.strip()) for part in parts), int(arguments["nth_paragraph"])
    if nth > n or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
    return (
        n == int(arguments["num_paragraphs"])
        and re.split(r"[.,?!'\"]", word)[0].lower() == arguments["first_word"].lower()
    )


def _postscript(text: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"].strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, marker.lower()), text.lower()) is not None


def _bullets(text: str, arguments: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, flags=re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, flags=re.MULTILINE)
    return len(stars) + len(dashes) == int(arguments["num_bullets"])


_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _highlights(text: str, arguments: Arguments) -> bool:
    single = [found for found in re.findall(r"\*[^\n\*]*\*", text) if found.strip("*").strip()]
    double = [found for found in re.findall(r"\*\*[^\n\*]*\*\*", text) if found[2:-2].strip()]
    return len(single) + len(double) >= int(arguments["num_highlights"])


def _sections(text: str, arguments: Arguments) -> bool:
    found = re.split(rf"\s?{arguments['section_spliter'].strip()}\s?\d+\s?", text)
    return len(found) - 1 >= int(arguments["num_sections"])


def _json(text: str, arguments: Arguments) -> bool:
    bare = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _two(text: str, arguments: Arguments) -> bool:
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    said = [part.strip() for part in parts if part.strip()]
    return len(said) == 2 and said[0] != said[1]


def _frequency(text: str, arguments: Arguments) -> bool:
    found = re.findall(arguments["keyword"].strip(), text, flags=re.IGNORECASE)
    return _compared(len(found), arguments, "frequency")


def _capitals(text: str, arguments: Arguments) -> bool:
    words = [word for word in re.findall(r"\w+(?:[-.]\w+)*", text) if word.isupper()]
    return _compared(len(words), arguments, "capital_frequency", "capital_relation")


def _quoted(text: str, arguments: Arguments) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _ends(text: str, arguments: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


CHECKS: Mapping[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": lambda text, a: all(re.search(word, text, re.IGNORECASE) for word in a["keywords"]),
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda text, a: (
        not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in a["forbidden_words"])
    ),
    "keywords:letter_frequency": lambda text, a: _compared(
        text.lower().count(a["letter"].lower()), a, "let_frequency", "let_relation"
    ),
    "language:response_language": lambda text, a: _is_in(text, a["language"]),
    "length_constraints:number_sentences": lambda text, a: _compared(sentences(text), a, "num_sentences"),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda text, a: _compared(_words(text), a, "num_words"),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda text, a: (
        len(re.findall(r"\[.*?\]", text)) >= int(a["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda text, a: any(option in text for option in _OPTIONS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": lambda text, a: any(
        title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text)
    ),
    "combination:two_responses": _two,
    "combination:repeat_prompt": lambda text, a: text.strip().lower().startswith(a["prompt_to_repeat"].strip().lower()),
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capitals,
    "change_case:english_capital": lambda text, a: text.isupper() and _is_in(text, "en"),
    "change_case:english_lowercase": lambda text, a: text.islower() and _is_in(text, "en"),
    "punctuation:no_comma": lambda text, a: "," not in text,
}
"""Kind of instruction to whether a text keeps it."""
