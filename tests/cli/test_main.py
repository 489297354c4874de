import importlib
import resource
import subprocess
import sys

import pytest
from cyclopts import App

from preflab.cli import main
from preflab.core.errors import ConfigError, DataError, Diverged, PreflabError, RunError, StoreError, StudyLocked

HEAVY = ("torch", "transformers", "datasets", "peft", "scipy", "pandas", "pyarrow", "matplotlib", "pydantic")


def preflab(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "preflab.cli.main", *words], capture_output=True, text=True, **options)


@pytest.mark.parametrize("words", [["--help"], [], ["version"], ["bogus"]])
def test_front_page_imports_nothing_heavy(words):
    script = f"import sys; from preflab.cli.main import run; run({words!r}); print(sys.modules.keys() & set({HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


@pytest.mark.parametrize("command", ["status", "report"])
def test_reading_a_study_needs_no_torch(command, tmp_path):
    script = (
        f"import sys; from preflab.cli.main import run; run([{command!r}, {str(tmp_path)!r}]); "
        "print(sys.modules.keys() & {'torch', 'transformers'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


def test_help_takes_less_than_half_a_second():
    def cpu_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert preflab("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_s() for _ in range(3)) < 0.5  # processor time: the wall clock of a shared machine says little


def test_every_command_on_the_front_page_can_be_imported(capsys):
    assert main.run(["--help"]) == 0
    page = capsys.readouterr().out
    for command in main.COMMANDS:
        module, _, name = command.target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
        assert command.help in " ".join(page.split())


def leaves(app: App, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    inner = [name for name in app if not name.startswith("-")]
    return [leaf for name in inner for leaf in leaves(app[name], (*path, name))] if inner else [path]


@pytest.mark.parametrize("path", leaves(main.build_app(), ()), ids=" ".join)
def test_help_of_every_command_shows_an_example_that_starts_with_it(path, capsys):
    if path == ("version",):
        return
    assert main.run([*path, "--help"]) == 0
    examples = capsys.readouterr().out.partition("Examples:")[2]
    assert f"preflab {' '.join(path)}" in examples


def test_help_of_a_command_shows_its_whole_docstring_with_examples(capsys):
    assert main.run(["doctor", "--help"]) == 0
    page = capsys.readouterr().out
    assert "Nothing leaves the machine" in page
    assert "preflab doctor /data/studies --online --json" in page


def test_help_of_a_nested_command_shows_its_examples(capsys):
    assert main.run(["methods", "show", "--help"]) == 0
    assert "preflab methods show simpo" in capsys.readouterr().out


def test_unknown_command_names_the_nearest_one(capsys):
    assert main.run(["doctr"]) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith("error: there is no command 'doctr'. Did you mean 'doctor'? Known: ")
    assert streams.err.count("\n") == 1
    assert streams.out == ""


def test_unknown_option_names_the_nearest_one_and_the_help_page(capsys):
    assert main.run(["doctor", "--jso"]) == 2
    assert capsys.readouterr().err == "error: Unknown option: --jso. Did you mean --json? Try: preflab doctor --help\n"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 3),
        (StoreError("x"), 3),
        (StudyLocked("x"), 75),
        (RunError("x"), 1),
        (Diverged(3, "x"), 1),
        (PreflabError("x"), 1),
    ],
)
def test_deliberate_error_is_one_line_and_its_exit_code(error, exit_code, monkeypatch, capsys):
    monkeypatch.setattr(main, "_dispatch", raiser(error))
    assert main.run([]) == exit_code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_interruption_exits_with_5(monkeypatch, capsys):
    monkeypatch.setattr(main, "_dispatch", raiser(KeyboardInterrupt()))
    assert main.run([]) == 5
    assert capsys.readouterr().err == "error: interrupted; the same command continues.\n"


def test_our_own_bug_exits_with_1_and_says_how_to_see_more(monkeypatch, capsys):
    monkeypatch.setattr(main, "_dispatch", raiser(KeyError("oops")))
    assert main.run([]) == 1
    assert capsys.readouterr().err == "error: KeyError: 'oops' (a bug of preflab; -v shows the traceback)\n"


def test_file_error_names_the_file(monkeypatch, capsys):
    monkeypatch.setattr(main, "_dispatch", raiser(PermissionError(13, "Permission denied", "/x/y")))
    assert main.run([]) == 1
    assert capsys.readouterr().err == "error: /x/y: Permission denied\n"


@pytest.mark.parametrize("how", ["-v", "--verbose", "PREFLAB_DEBUG"])
def test_verbose_adds_the_traceback(how, monkeypatch, capsys):
    monkeypatch.setattr(main, "_dispatch", raiser(ConfigError("x")))
    if how == "PREFLAB_DEBUG":
        monkeypatch.setenv(how, "1")
    assert main.run([] if how == "PREFLAB_DEBUG" else [how]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "error: x"


def test_integer_result_is_the_exit_code(monkeypatch):
    monkeypatch.setattr(main, "_dispatch", lambda words: 4)
    assert main.run([]) == 4


def test_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "preflab.cli.main", "version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()  # long before the command has anything to print
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_version_is_the_packages():
    from importlib.metadata import version

    assert preflab("version").stdout == preflab("--version").stdout == f"{version('preflab')}\n"


def raiser(error: BaseException):
    def raise_it(words):
        raise error

    return raise_it
