"""Names in a study file that stand for something in the package: `pocket:base`, `pocket:pairs`, the reward `pocket`."""

import importlib.metadata
from functools import partial
from pathlib import Path

from preflab.core.errors import ConfigError, nearest
from preflab.core.ids import canonical_json, digest_of, file_digest
from preflab.evals import constraints, mathematics, sentiment
from preflab.evals.rewards import Reward, reward_from_file, scores_of
from preflab.studies.config import SourceConfig

_POCKET = "pocket:"
REWARDS = ("pocket", "constraints", "math", "last-number", "sentiment")
"""Rewards of the package; `path/to/file.py:NAME` is a user's own."""


def model_source(name: str) -> str:
    """Return the folder of a pocket model, or the name as it is (a folder or a Hub id)."""
    if not name.startswith(_POCKET):
        return name
    from preflab.pocket.assets import model_path

    return str(model_path(name.removeprefix(_POCKET)))


def data_source(source: SourceConfig) -> SourceConfig:
    """Return a source with the file of a pocket data set as its path, or as it is."""
    if not source.path.startswith(_POCKET):
        return source
    from preflab.pocket.assets import data_path

    return source.model_copy(update={"path": str(data_path(source.path.removeprefix(_POCKET)))})


def reward(name: str | None, *, where: str = "evaluate.reward") -> Reward | None:
    """Return the reward function of that name, or the one that `path/to/file.py:NAME` names.

    Whatever it does wrong comes as a `DataError` that names it.

    Raises:
        ConfigError: there is none.
    """
    if name is None:
        return None
    if name.endswith(".py"):
        raise ConfigError(f"{where}: which function of the file? Write {name}:NAME.")
    return partial(scores_of, reward_from_file(name) if ".py:" in name else _built_in(name, where), name)


def reward_digest(name: str | None) -> str:
    """Return the SHA-256 of the code of a reward, so that a changed rule never keeps old rewards; empty for none.

    Of a user's reward it is that of the file alone, not of what the file imports.
    """
    if name is None:
        return ""
    if ".py:" in name:
        return file_digest(Path(name.rpartition(":")[0]).expanduser())
    if name == "pocket":
        import preflab.pocket

        folder = Path(preflab.pocket.__path__[0])
        code = [p for p in sorted(folder.rglob("*.py")) if p.name != "toy.py"]  # the toy model has no rewards
        return digest_of(f"{p.relative_to(folder)} {file_digest(p)}" for p in code)
    if name == "constraints":
        return file_digest(Path(constraints.__file__))
    if name == "sentiment":
        return digest_of([file_digest(Path(sentiment.__file__)), importlib.metadata.version("vaderSentiment")])
    library = importlib.metadata.version("math-verify") if name == "math" else ""
    return digest_of([file_digest(Path(mathematics.__file__)), library])


def _built_in(name: str, where: str) -> Reward:
    if name == "constraints":
        return constraints.constraint_reward
    if name == "last-number":
        return mathematics.last_number_reward
    if name == "math":
        mathematics.check_library()
        return mathematics.math_reward
    if name == "sentiment":
        sentiment.check_library()
        return sentiment.sentiment_reward
    if name == "profanity":
        raise ConfigError(
            f"{where}: there is no reward 'profanity': the weights of alt-profanity-check are pickles, which run code "
            "when they are loaded; name a reward model from safetensors, or path/to/file.py:NAME."
        )
    if name == "pocket":
        from preflab.pocket.rewards import gold_reward

        return gold_reward
    raise ConfigError(f"{where}: unknown reward {name!r}. {nearest(name, [*REWARDS, 'path/to/file.py:NAME'])}")


def source_digest(source: SourceConfig) -> str:
    """Return what identifies the content of a data source: file hashes and split, or what the Hub is asked for."""
    path = Path(source.path).expanduser()
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = (f"{p.relative_to(path)} {file_digest(p)}" for p in sorted(path.rglob("*")) if p.is_file())
        return digest_of([*files, source.split])
    return "hub:" + canonical_json(source.model_dump())
