"""The words around the tables of coverage."""

from collections import defaultdict

OPENING = ""
CLOSING = ""
WORDS: dict[str, str] = defaultdict(str)
