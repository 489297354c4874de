import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from preflab.cli.main import COMMANDS, build_app
from preflab.studies.config import StudyConfig
from preflab.studies.study_file import decode

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_generated_pages_are_current():
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_check_notices_a_page_that_is_not_current(tmp_path):
    copy = tmp_path / "docs" / "generate.py"
    copy.parent.mkdir()
    copy.write_text((ROOT / "docs/generate.py").read_text())
    done = subprocess.run([sys.executable, str(copy), "--check"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "commands.md" in done.stderr and "Run: make docs" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_in_the_reference(command):
    assert re.search(rf"^#+ preflab {command.name}$", (ROOT / "docs/generated/commands.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_in_the_readme(command):
    assert re.search(rf"`[^`]*\b{command.name}\b[^`]*`", (ROOT / "README.md").read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def yaml_blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            found.append((f"{page.relative_to(ROOT)}:{number}", block))
    return found


@pytest.mark.parametrize(("name", "block"), yaml_blocks(), ids=lambda value: value.split("\n")[0])
def test_study_files_on_the_pages_are_valid(name, block):
    """A block may be a part of a study file; the rest is then a study of one cell."""
    document = {
        "study": "x",
        "methods": {"dpo": {}},
        "models": {"base": "pocket:base"},
        "data": {"train": "pocket:pairs"},
    }
    for key, value in YAML(typ="safe").load(block).items():
        document[key] = {**document.get(key, {}), **value} if key in ("models", "data") else value
    assert isinstance(decode(document, source=name), StudyConfig)


def command_lines() -> list[tuple[str, str]]:
    """Return the command lines in the blocks of pages written by hand, without those that list alternatives."""
    found = []
    for page in PAGES:
        if "generated" in page.parts or "decisions" in page.parts:
            continue
        for block in re.findall(r"^```(?:bash|text|)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            lines = [line.removeprefix("$ ") for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
            lines = [line for line in lines if line.startswith("preflab ") and "|" not in line]
            found += [(str(page.relative_to(ROOT)), line) for line in lines]
    return found


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_commands_on_the_pages_are_ones_that_the_program_takes(page, line):
    words = shlex.split(line, comments=True)[1:]
    build_app([words[0]]).parse_args(words, print_error=False, exit_on_error=False)
