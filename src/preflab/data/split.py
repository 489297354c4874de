"""Splits by prompt: no prompt is ever in two of them, and the order of the file decides nothing."""

import hashlib
from collections.abc import Sequence

from preflab.core.errors import DataError
from preflab.core.seeds import derive
from preflab.data.examples import Example
from preflab.data.prompts import fingerprints


def split_by_prompt(
    examples: Sequence[Example], *, validation: int, test: int, seed: int
) -> dict[str, tuple[Example, ...]]:
    """Hold out prompts with all their rows for validation and test; the rest is for training.

    Prompts are ranked by a hash of seed and prompt: the lowest `test` of them are the test split, the next
    `validation` the validation split. So the split of a prompt depends on neither the order nor the number of rows,
    the test split does not change with the size of the validation split, and rows that are added to a file later move
    few others. Prompts that differ only in case, spacing or Unicode form count as one.

    Args:
        examples: the rows; those of one split keep their order.
        validation: prompts to hold out for choosing settings.
        test: prompts to hold out for the final tables.
        seed: another seed holds out other prompts.

    Returns:
        `train`, `validation` and `test`.

    Raises:
        DataError: fewer prompts than asked for, or none left to train on.
    """
    if validation < 0 or test < 0:
        raise ValueError(f"numbers of prompts must be at least 0; got validation={validation}, test={test}")
    keys = fingerprints(examples)
    n_prompts = len(set(keys))
    if n_prompts < validation + test + 1:
        raise DataError(
            f"the data have {n_prompts} different prompts, too few to hold out {validation} for validation and {test} "
            "for test and keep any for training. Lower data.validation and data.test (on the command line: --set "
            "data.validation=N), or bring more data."
        )
    salt = derive(seed, "split").to_bytes(8, "big")
    ranked = sorted(set(keys), key=lambda key: hashlib.blake2b(salt + key, digest_size=16).digest())
    place = dict.fromkeys(ranked, "train")
    place.update(dict.fromkeys(ranked[:test], "test"))
    place.update(dict.fromkeys(ranked[test : test + validation], "validation"))
    rows: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for key, example in zip(keys, examples, strict=True):
        rows[place[key]].append(example)
    return {name: tuple(found) for name, found in rows.items()}
