"""Names in a study file that stand for something in the package: `pocket:base`, `pocket:pairs`, the reward `pocket`."""

from pathlib import Path

from preflab.core.errors import ConfigError, nearest
from preflab.core.ids import canonical_json, digest_of, file_digest
from preflab.evals.rewards import Reward
from preflab.studies.config import SourceConfig

_POCKET = "pocket:"
_REWARDS = ["pocket"]


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


def reward(name: str | None, key: str = "evaluate.reward") -> Reward | None:
    """Return the reward function of that name; `key` is where the study says it.

    Raises:
        ConfigError: there is none.
    """
    if name is None:
        return None
    if name not in _REWARDS:
        raise ConfigError(f"{key}: unknown reward {name!r}. {nearest(name, _REWARDS)}")
    from preflab.pocket.rewards import gold_reward

    return gold_reward


def reward_digest(name: str | None) -> str:
    """Return the SHA-256 of the code of a reward, so that a changed rule never keeps old rewards; empty for none."""
    if name is None:
        return ""
    import preflab.pocket

    folder = Path(preflab.pocket.__path__[0])
    code = [p for p in sorted(folder.rglob("*.py")) if p.name != "toy.py"]  # the toy model has no rewards
    return digest_of(f"{p.relative_to(folder)} {file_digest(p)}" for p in code)


def source_digest(source: SourceConfig) -> str:
    """Return what identifies the content of a data source: file hashes and split, or what the Hub is asked for."""
    path = Path(source.path).expanduser()
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = (f"{p.relative_to(path)} {file_digest(p)}" for p in sorted(path.rglob("*")) if p.is_file())
        return digest_of([*files, source.split])
    return "hub:" + canonical_json(source.model_dump())
