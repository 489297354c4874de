"""How much a plan says that following a training computes."""

from preflab.studies.amounts import Amounts
from preflab.studies.study_file import decode

INFO = {
    "splits": {"train": 100, "validation": 4},
    "mean_tokens": {"validation": {"prompt": 10.0, "chosen": 6.0, "rejected": 4.0}},
}


def amounts(**train):
    study = {"study": "x", "models": {"base": "b"}, "methods": {"dpo": {}}, "data": {"train": "t"}, "train": train}
    return Amounts(decode(study, source="test"), INFO)


def test_no_more_validation_rows_are_followed_than_there_are():
    """A row is its prompt, its pair and one answer to another prompt, on average half as long as the pair."""
    assert amounts(monitor_rows=2, monitor_points=3).monitor() == 3 * 2 * (20 + 5)
    assert amounts(monitor_rows=64, monitor_points=3).monitor() == 3 * 4 * (20 + 5)
