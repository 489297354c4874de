"""The command `preflab`: which commands there are, and how an error becomes one line and an exit code."""

import atexit
import contextlib
import inspect
import os
import re
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import NamedTuple

from cyclopts import App, CycloptsError, Group

from preflab.core.errors import ConfigError, PreflabError, nearest
from preflab.core.texts import without_controls

INTERNAL_ERROR = 1
BAD_USAGE = 2
INTERRUPTED = 5
_VERBOSE_FLAGS = ("-v", "--verbose")


class Command(NamedTuple):
    """One entry of `preflab --help`; the module behind it is imported only when the command is called."""

    name: str
    target: str
    help: str
    group: str


_STUDY, _TOOLS = "A study", "Tools"
COMMANDS = (
    Command("init", "preflab.cli.study:init", "Write a commented study file to start from.", _STUDY),
    Command("plan", "preflab.cli.study:plan", "Check a study and show what it would run and for how long.", _STUDY),
    Command("run", "preflab.cli.study:run", "Run a study, or continue it where it stopped.", _STUDY),
    Command("status", "preflab.cli.study:status", "Show how far a study is.", _STUDY),
    Command("report", "preflab.cli.study:report", "Write the report of a study as one HTML file.", _STUDY),
    Command("view", "preflab.cli.view:view", "Show the report in the browser, live while the study runs.", _STUDY),
    Command("demo", "preflab.cli.study:demo", "Run a whole study offline in minutes.", _STUDY),
    Command("train", "preflab.cli.study:train", "Train one model with one method.", _STUDY),
    Command("reproduce", "preflab.cli.reproduce:reproduce", "Run a paper's study and judge its claims by it.", _STUDY),
    Command("eval", "preflab.cli.evaluate:evaluate", "Score any model on benchmarks.", _TOOLS),
    Command("compare", "preflab.cli.evaluate:compare", "Compare models item by item on benchmarks.", _TOOLS),
    Command("judge", "preflab.cli.judge:app", "Judge answers with a language model, and check the judge.", _TOOLS),
    Command("track", "preflab.cli.track:track", "Write a study's runs for TensorBoard, W&B or Trackio.", _STUDY),
    Command("export", "preflab.cli.export:export", "Save the best model with a model card.", _STUDY),
    Command(
        "export-reward", "preflab.cli.export:export_reward", "Save a study's reward model as a plain folder.", _TOOLS
    ),
    Command("diagnose", "preflab.cli.diagnose:diagnose", "Say what training did to a model.", _TOOLS),
    Command("data", "preflab.cli.data:app", "Check preference data, make them, and get benchmarks.", _TOOLS),
    Command("methods", "preflab.cli.methods:app", "List, explain and cite the methods.", _TOOLS),
    Command("pocket", "preflab.cli.pocket:app", "Make the built-in world again from nothing.", _TOOLS),
    Command("doctor", "preflab.cli.doctor:doctor", "Check this machine: versions, processor, disk, hub.", _TOOLS),
    Command("version", "preflab.cli.main:show_version", "Print the version of preflab.", _TOOLS),
)
_EPILOGUE = "Add -v to any command to see the traceback of an error."


def build_app(called: Collection[str] = ()) -> App:
    """Return the command tree without importing any command.

    Args:
        called: commands whose own docstring is going to be shown, so the ones about to run; cyclopts would put the one
            line of `COMMANDS` in its place.
    """
    app = App(
        name="preflab",
        help="The laboratory for preference optimisation: declare a study, get evidence.",
        help_epilogue=_EPILOGUE,
        version=lambda: version("preflab"),
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    groups = {name: Group.create_ordered(name) for name in (_STUDY, _TOOLS, "Options")}
    for place, command in enumerate(COMMANDS):
        line = None if command.name in called else command.help
        app.command(command.target, name=command.name, help=line, group=groups[command.group], sort_key=place)
    app["--help"].group = app["--version"].group = groups["Options"]
    return app


def show_examples(app: App, words: Sequence[str]) -> None:
    """Put the `Examples` of the called command's docstring on its help page; cyclopts leaves them out."""
    chain, apps, _ = app.parse_commands(words)
    called = [each for name, each in zip(chain, apps[1:], strict=False) if not name.startswith("-")]
    if called and called[-1].default_command:
        doc = inspect.getdoc(called[-1].default_command) or ""
        block = re.search(r"^Examples:\n((?:[ ]+.*\n|\n)+)", doc + "\n", re.MULTILINE)
        if block:
            lines = [line.strip() for line in block[1].splitlines() if line.strip()]
            called[-1].help_epilogue = "\n".join(["Examples:", "```text", *lines, "```", "", _EPILOGUE])


def show_version() -> None:
    """Print the version of preflab."""
    print(version("preflab"))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error ends as one line on stderr.

    Args:
        arguments: the words after `preflab`.
    """
    verbose = any(flag in arguments for flag in _VERBOSE_FLAGS) or os.environ.get("PREFLAB_DEBUG", "") not in ("", "0")
    words = [word for word in arguments if word not in _VERBOSE_FLAGS]
    try:
        result = _dispatch(words)
        sys.stdout.flush()
    except PreflabError as error:
        return _fail(str(error), error.exit_code, verbose)
    except CycloptsError as error:
        return _fail(f"{error} Try: {' '.join(['preflab', *words[:1], '--help'])}", BAD_USAGE, verbose)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command continues.", INTERRUPTED, verbose)
    except BrokenPipeError:
        # The reader of our output, such as `head`, is gone. Python would complain once more while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}", INTERNAL_ERROR, verbose)
    except Exception as error:
        hint = "" if verbose else " (a bug of preflab; -v shows the traceback)"
        return _fail(f"{type(error).__name__}: {error}{hint}", INTERNAL_ERROR, verbose)
    return result if isinstance(result, int) else 0


def _dispatch(words: list[str]) -> object:
    called = words[0] if words else ""
    known = [command.name for command in COMMANDS]
    # cyclopts would import every command to say the same.
    if called and not called.startswith("-") and called not in known:
        raise ConfigError(f"there is no command {called!r}. {nearest(called, known)}")
    app = build_app([called])
    show_examples(app, words)
    return app(words)


def _fail(text: str, exit_code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"error: {without_controls(text)}", file=sys.stderr)
    return exit_code


def main() -> None:
    """Entry point of the `preflab` command; SIGTERM, as schedulers of clusters send it, stops a study like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run(sys.argv[1:])
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stderr.flush()
    # Python would take thousands of imported modules apart, for a second or two after everything is done.
    atexit._run_exitfuncs()
    os._exit(code)


if __name__ == "__main__":
    main()
