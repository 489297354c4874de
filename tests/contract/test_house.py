"""Rules of the house that keep methods small, alike and known to nothing else."""

import ast
import re
from pathlib import Path

import pytest

import preflab
from preflab.methods import ALL

SOURCE = Path(preflab.__file__).parent
METHOD_FILES = [SOURCE / "methods" / f"{method.name}.py" for method in ALL]
ALLOWED = ("preflab.core.", *(f"preflab.methods.{name}" for name in ("_types", "_ops", "_hyper", "_papers")))


def imported(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return names + [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("path", METHOD_FILES, ids=lambda path: path.stem)
def test_method_files_import_only_types_ops_and_core(path):
    ours = [name for name in imported(path) if name.split(".")[0] == "preflab"]
    # A published mixture is made of other methods.
    allowed = (*ALLOWED, "preflab.methods.") if "preflab.methods._mixture" in ours else ALLOWED
    assert [name for name in ours if not name.startswith(allowed)] == []


@pytest.mark.parametrize("path", METHOD_FILES, ids=lambda path: path.stem)
def test_functions_of_methods_have_at_most_thirty_lines_of_code(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 30, node.name


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_annotations_in_methods_are_types_not_text(path):
    """What a loss needs is read from its annotations at run time."""
    assert "__future__" not in imported(path)


def test_nothing_outside_methods_asks_which_method_it_has():
    """One loop for all: behaviour follows from a method's declaration, never from its name."""
    asks = re.compile(r"\bmethod\.name\s*(==|!=|\bin\b|\bnot in\b)")
    found = [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in SOURCE.rglob("*.py")
        if "methods" not in path.relative_to(SOURCE).parts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if asks.search(line)
    ]
    assert found == []
