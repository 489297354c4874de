"""Comparability: everything that moves a score beside the weights, and words for where two scores differ in it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from preflab.core.errors import ConfigError

_WORDS = {
    "benchmark": "the benchmark",
    "scorer": "the scorer or its version",
    "shots": "the number of worked examples",
    "template": "the chat template",
    "subset": "the items",
    "prompts": "the text of the prompts",
    "longest": "the longest written answer",
    "tokenizer": "the tokenizer",
    "numeric": "device or precision",
}
# Models with different tokenizers are compared all the time, on the same text; it is told, and no reason to refuse.
_TOLD = ("tokenizer",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a score depends on beside the weights.

    Args:
        benchmark: its name.
        scorer: `native` or `lm-eval`, with the version of its rules.
        shots: worked examples in front of every item.
        template: digest of the chat template that rendered the prompts; empty for plain text.
        subset: digest of the items.
        prompts: digest of the text of all prompts and options.
        longest: tokens of a written answer at most; 0 for choices.
        tokenizer: digest of the model's tokenizer.
        numeric: device and dtype.
    """

    benchmark: str
    scorer: str
    shots: int
    template: str
    subset: str
    prompts: str
    longest: int
    tokenizer: str
    numeric: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return its parts by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> "Key":
        """Return the key with these parts."""
        return cls(**parts)

    def differs(self, other: "Key") -> list[str]:
        """Return in words the parts that make scores incomparable; nothing where they may be compared."""
        ours, theirs = self.as_json(), other.as_json()
        return [words for part, words in _WORDS.items() if part not in _TOLD and ours[part] != theirs[part]]


def check_comparable(first: Key, second: Key, names: tuple[str, str]) -> None:
    """Refuse to compare scores that differ in more than the weights.

    Args:
        first: of one score.
        second: of the other.
        names: of the two models.

    Raises:
        ConfigError: with the parts that differ.
    """
    if parts := first.differs(second):
        raise ConfigError(
            f"{first.benchmark}: the scores of {names[0]} and {names[1]} differ in {_listed(parts)}, so their "
            "difference would not be one of the models; score both the same way."
        )


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
