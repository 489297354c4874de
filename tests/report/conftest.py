import pytest
from tests.report import synthetic as invented


@pytest.fixture(scope="session")
def synthetic():
    """The module that invents studies."""
    return invented


@pytest.fixture(scope="session")
def small(synthetic):
    """A study of three methods, two start points, two sizes and two seeds."""
    shape = synthetic.Shape(
        methods=("dpo", "simpo", "slic_hf"),
        starts=("base", "sft"),
        sizes=(64, 256),
        prompts=30,
        texts=synthetic.HOSTILE,
    )
    return synthetic.make(shape)
