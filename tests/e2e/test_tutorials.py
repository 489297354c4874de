"""The tutorials' commands, run one after another as their reader would."""

import re
import shlex
from pathlib import Path

import pytest
from tests.e2e.test_study import preflab

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [text for kind, text in _BLOCK.findall((DOCS / page).read_text(encoding="utf-8")) if kind == language]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["which-method", "own-pairs", "own-method", "likelihood"])
def test_a_tutorial_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cut_dpo.py").write_text(blocks("methods.md", "python")[0])
    for text in blocks(f"tutorials/{page}.md", "yaml"):
        if name := re.match(r"study: (\S+)", text):
            Path(f"{name[1]}.yaml").write_text(text)
    commands = [
        shlex.split(line, comments=True) for b in blocks(f"tutorials/{page}.md", "bash") for line in b.splitlines()
    ]
    assert commands
    for program, *words in commands:
        assert program == "preflab"
        if words[0] != "view":  # it would wait for its reader
            preflab(*words, cache=tmp_path / "cache")
