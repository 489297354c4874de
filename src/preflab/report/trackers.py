"""A study in TensorBoard, Weights & Biases or Trackio: a run per cell, written from the artefacts, only what is new."""

import contextlib
import importlib.util
import io
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from preflab.core.errors import ConfigError
from preflab.report.load import whole_tables
from preflab.report.runs import TrackedRun, file_name, tracked_runs
from preflab.store.artefacts import write_json
from preflab.store.documents import read_document

_WRITTEN = "preflab-runs.json"


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a tracker has of a study.

    Args:
        folder: where its files are.
        new: names of the runs that were written now.
        n_known: runs that were there already, unchanged.
    """

    folder: str
    new: tuple[str, ...]
    n_known: int


def track(study: Path, tracker: str, out: Path | None = None, *, project: str | None = None) -> Tracked:
    """Write every finished cell of a study as a run of a tracker; runs that are there unchanged are left alone.

    Args:
        study: folder of the study.
        tracker: a name in `TRACKERS`.
        out: folder for the tracker's files; default: `tracked/` and its name in the study.
        project: W&B or Trackio project; default: the study's name.

    Raises:
        ConfigError: the tracker is not known or not installed.
        StoreError: the study is damaged.
    """
    if tracker not in TRACKERS:
        raise ConfigError(f"{tracker}: not a tracker preflab writes for. Known: {', '.join(TRACKERS)}.")
    if importlib.util.find_spec(tracker) is None:
        raise ConfigError(f"{tracker}: not installed; pip install 'preflab[{tracker}]'.")
    tables = whole_tables(study)
    out = out or study / "tracked" / tracker
    out.mkdir(parents=True, exist_ok=True)
    written = dict(read_document(out / _WRITTEN)) if (out / _WRITTEN).exists() else {}
    new, n_known = [], 0
    for run in tracked_runs(tables):
        if written.get(run.id) == run.digest:
            n_known += 1
            continue
        TRACKERS[tracker](run, out, project or run.group)
        written[run.id] = run.digest
        write_json(out / _WRITTEN, written)  # after each, so that a stop repeats one run at most
        new.append(run.name)
    return Tracked(str(out), tuple(new), n_known)


def _tensorboard(run: TrackedRun, out: Path, project: str) -> None:
    """Write a folder of scalars and hyper-parameters, with the tracker's own writer and without torch."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    final, temporary = out / file_name(run), out / f".{file_name(run)}"
    shutil.rmtree(temporary, ignore_errors=True)
    writer = EventFileWriter(str(temporary))

    def add(values: list[Any], step: int) -> None:
        writer.add_event(Event(step=step, summary=Summary(value=values)))

    def add_session(tag: str, data: Any) -> None:
        about = metadata.create_summary_metadata(data)
        add([Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)], 0)

    start = SessionStartInfo(group_name=run.name)
    for name, value in run.settings.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    add_session(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))
    for step, values in run.curves.items():
        add([Summary.Value(tag=name, simple_value=value) for name, value in values.items()], step)
    last = max(run.curves, default=0)
    add([Summary.Value(tag=name, simple_value=value) for name, value in run.final.items()], last)
    add_session(
        metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=SessionEndInfo(status="STATUS_SUCCESS"))
    )
    writer.close()
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


def _wandb(run: TrackedRun, out: Path, project: str) -> None:
    """Write a run offline, or send it where `WANDB_MODE` says online; no code, git state or statistics go with it."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    quiet = wandb.Settings(
        console="off", silent=True, disable_code=True, disable_git=True, disable_job_creation=True,
        x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
    )  # fmt: skip
    session = wandb.init(
        project=project, dir=str(out), id=run.id, name=run.name[:128], group=run.group[:128],
        config=dict(run.settings), mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
        resume="allow", settings=quiet,
    )  # fmt: skip
    for step, values in run.curves.items():
        session.log(dict(values), step=step)
    session.summary.update(dict(run.final))
    if len(run.responses):
        session.log({"responses": wandb.Table(dataframe=run.responses)}, step=max(run.curves, default=0))
    session.finish()


def _trackio(run: TrackedRun, out: Path, project: str) -> None:
    """Write a run into Trackio's database in the folder; a run of that name is replaced."""
    os.environ["TRACKIO_DIR"] = str(out.resolve())  # read when it is imported
    with contextlib.redirect_stdout(io.StringIO()):
        import trackio

        if str(trackio.TRACKIO_DIR) != os.environ["TRACKIO_DIR"]:
            raise ConfigError(
                f"trackio writes to {trackio.TRACKIO_DIR} in this process already; start another for {out}."
            )
        session = trackio.init(
            project=project, name=file_name(run), group=run.group, config=dict(run.settings), embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        for step, values in run.curves.items():
            trackio.log(dict(values), step=step)
        last = max(run.curves, default=0)
        trackio.log(dict(run.final), step=last)
        if len(run.responses):
            trackio.log({"responses": trackio.Table(dataframe=run.responses)}, step=last)
        trackio.finish()
        for earlier in trackio.Api().runs(project):
            if earlier.name == file_name(run) and earlier.id != session.id:
                earlier.delete()


TRACKERS: Final[Mapping[str, Callable[[TrackedRun, Path, str], None]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
