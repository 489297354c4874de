import numpy as np
import pytest
import torch
from tests.tiny import random_rows, tiny_model

from preflab.core.errors import StoreError
from preflab.scoring.logps import score
from preflab.scoring.reference import ReferenceStore

ROLES = ("chosen", "rejected")


def refuse():
    raise AssertionError("a forward was asked for")


def store(tmp_path, weights="w"):
    return ReferenceStore(tmp_path, weights, {"dtype": "float32"})


def test_what_is_scored_once_needs_no_model_again(tmp_path):
    model, rows = tiny_model(dtype=torch.float32), random_rows(6)
    first = store(tmp_path)
    first.complete(lambda: model, rows, ROLES, budget=50)
    assert first.n_scored == 12
    second = store(tmp_path)
    second.complete(refuse, rows[::-1], ROLES, budget=7)  # another order, another budget
    assert second.n_scored == 0
    expected = score(model, rows, ROLES, budget=50)
    for role in ROLES:
        for found, wanted in zip(second.tokens(rows, role), expected[role], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_only_new_rows_are_scored(tmp_path):
    model, rows = tiny_model(dtype=torch.float32), random_rows(6)
    store(tmp_path).complete(lambda: model, rows[:4], ROLES, budget=50)
    grown = store(tmp_path)
    grown.complete(lambda: model, rows, ROLES, budget=50)
    assert grown.n_scored == 4


def test_other_weights_share_nothing(tmp_path):
    model, rows = tiny_model(dtype=torch.float32), random_rows(2)
    store(tmp_path).complete(lambda: model, rows, ROLES, budget=50)
    with pytest.raises(StoreError, match="no reference log-prob for row 1"):
        store(tmp_path, "other").tokens(rows, "chosen")


def test_the_first_score_of_a_response_stays(tmp_path):
    rows = random_rows(2)
    a, b = store(tmp_path), store(tmp_path)
    a.complete(lambda: tiny_model(dtype=torch.float32, seed=0), rows, ROLES, budget=50)
    b._logps.clear()  # as if both had begun before either wrote
    b._append({k: v - 1 for k, v in a._logps.items()})
    for found, first in zip(store(tmp_path).tokens(rows, "chosen"), a.tokens(rows, "chosen"), strict=True):
        np.testing.assert_array_equal(found, first)


def test_a_missing_role_is_none(tmp_path):
    rows = random_rows(1)
    row = type(rows[0])(1, rows[0].prompt, {"chosen": rows[0].responses["chosen"]})
    found = store(tmp_path)
    found.complete(lambda: tiny_model(dtype=torch.float32), [row], ROLES, budget=50)
    assert found.tokens([row], "rejected") == [None]


def test_a_damaged_shard_is_named(tmp_path):
    rows = random_rows(1)
    store(tmp_path).complete(lambda: tiny_model(dtype=torch.float32), rows, ROLES, budget=50)
    (shard,) = tmp_path.rglob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(StoreError, match=shard.name):
        store(tmp_path).tokens(rows, "chosen")
