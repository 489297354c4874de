import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/statistics.md"


def test_examples_on_the_page_give_what_it_says():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted > 30 and found.failed == 0
