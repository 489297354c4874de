"""`preflab track`: what a tracker reads back is what the study measured, written once."""

import importlib.util
import json
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing

import pandas as pd
import pytest
from tests.report.on_disk import write_study
from tests.report.synthetic import HOSTILE, Shape, make

from preflab.core.errors import ConfigError
from preflab.report.load import load_tables
from preflab.report.runs import file_name, tracked_runs
from preflab.report.trackers import TRACKERS, track
from preflab.stats.intervals import mean_interval

SHAPE = Shape(methods=("dpo", "ipo"), starts=("base",), sizes=(64,), seeds=1, prompts=12, texts=HOSTILE, snapshots=3)


def needs(tracker):
    missing = importlib.util.find_spec(tracker) is None
    return pytest.mark.skipif(missing, reason=f"{tracker} is an extra that is not installed")


@pytest.fixture
def folder(tmp_path):
    return write_study(tmp_path / "study", make(SHAPE))


@pytest.fixture
def runs(folder):
    return list(tracked_runs(load_tables(folder)))


def test_runs_hold_the_numbers_of_the_study(folder, runs):
    tables = load_tables(folder)
    finished = tables.cells[tables.cells["status"].isin(["done", "diverged"])]
    assert len(runs) == len(finished) and len({run.id for run in runs}) == len(runs)
    run, cell = next((r, c) for r, c in zip(runs, finished.to_dict("records"), strict=True) if c["method"] == "dpo")
    rewards = tables.responses.query("cell == @cell['cell'] and split == 'test'")
    interval = mean_interval(rewards["reward"].to_numpy(), clusters=rewards["prompt"].tolist())
    for name, bound in (("", interval.estimate), ("_low", interval.low), ("_high", interval.high)):
        assert run.final[f"test/reward{name}"] == pytest.approx(bound)
    log = tables.log[tables.log["cell"] == cell["cell"]].set_index("step")["loss"]
    assert {
        step: values["train/loss"] for step, values in run.curves.items() if "train/loss" in values
    } == log.to_dict()
    dynamics = tables.dynamics[tables.dynamics["cell"] == cell["cell"]].set_index("step")["chosen_total"]
    assert {s: v["validation/chosen_total"] for s, v in run.curves.items() if "validation/chosen_total" in v} == (
        dynamics.to_dict()
    )
    assert run.settings["method"] == "dpo" and run.settings["learning_rate"] == cell["learning_rate"]
    earlier = tables.snapshots[tables.snapshots["cell"] == cell["cell"]]
    assert len(earlier) == 9
    assert len(run.responses) == 9 + len(tables.responses[tables.responses["cell"] == cell["cell"]])
    assert run.responses["step"].tolist()[:9] == earlier["step"].tolist() and run.responses["prompt"].notna().all()
    means = earlier.groupby("step")["reward"].mean().to_dict()
    assert {s: v["snapshots/reward"] for s, v in run.curves.items() if "snapshots/reward" in v} == pytest.approx(means)


@needs("tensorboard")
def test_tensorboard_reads_back_what_was_written_and_the_same_again_writes_nothing(folder, runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    first = track(folder, "tensorboard")
    assert len(first.new) == len(runs) and first.n_known == 0
    for run in runs:
        events = EventAccumulator(f"{first.folder}/{file_name(run)}").Reload()
        tags = {tag for values in run.curves.values() for tag in values} | set(run.final)
        read = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags}
        for step, values in run.curves.items():
            assert {tag: read[tag][step] for tag in values} == pytest.approx(dict(values), rel=1e-6)
        last = max(run.curves, default=0)
        assert {tag: read[tag][last] for tag in run.final} == pytest.approx(dict(run.final), rel=1e-6)
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        settings = metadata.parse_session_start_info_plugin_data(content).hparams
        assert set(settings) == set(run.settings) and settings["method"].string_value == run.settings["method"]
    assert track(folder, "tensorboard").new == ()
    written = json.loads((folder / "tracked/tensorboard/preflab-runs.json").read_text())
    (folder / "tracked/tensorboard/preflab-runs.json").write_text(json.dumps({**written, runs[1].id: "older"}))
    again = track(folder, "tensorboard")
    assert again.new == (runs[1].name,) and again.n_known == len(runs) - 1
    assert len(list((folder / "tracked/tensorboard").rglob("events.out.*"))) == len(runs)


def wandb_records(data):
    """Yield the records of a W&B file: LevelDB's log format, blocks of 32 KiB, behind a header of seven bytes."""
    place, parts = 7, []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


@needs("wandb")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb.*")
def test_wandb_is_written_offline_with_scores_curves_and_responses(folder, runs, monkeypatch, tmp_path):
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_MODE", raising=False)
    found = track(folder, "wandb", tmp_path / "w", project="p")
    assert len(found.new) == len(runs)
    for run in runs:
        (path,) = (tmp_path / "w").glob(f"wandb/offline-run-*-{run.id}/run-{run.id}.wandb")
        summary, steps = {}, set()
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            summary |= {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
            values = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            steps |= {values["_step"]} if "_step" in values else set()
        assert {name: summary[name] for name in run.final} == pytest.approx(dict(run.final))
        assert set(run.curves) <= steps
        tables = list(path.parent.glob("files/media/table/responses*.json"))
        assert len(tables) == (1 if len(run.responses) else 0)
        for table in tables:
            read = json.loads(table.read_text())
            frame = pd.DataFrame(read["data"], columns=read["columns"])
            assert frame["response"].tolist() == run.responses["response"].tolist()
    assert track(folder, "wandb", tmp_path / "w", project="p").new == ()


@needs("trackio")
def test_trackio_holds_each_run_once_also_when_it_changed(folder, runs, tmp_path):
    # Trackio reads where it writes to when it is imported.
    code = "import sys; from pathlib import Path; from preflab.report.trackers import track; "
    code += "print(len(track(Path(sys.argv[1]), 'trackio', Path(sys.argv[2]), project='p').new))"

    def tracked():
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(tmp_path / "t")], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert tracked() == len(runs) and tracked() == 0
    written = json.loads((tmp_path / "t/preflab-runs.json").read_text())
    (tmp_path / "t/preflab-runs.json").write_text(json.dumps({**written, runs[1].id: "older"}))
    assert tracked() == 1
    with closing(sqlite3.connect(tmp_path / "t" / "p.db")) as base:
        configs = dict(base.execute("select run_name, config from configs").fetchall())
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert set(configs) == {file_name(run) for run in runs}
    for run in runs:
        assert json.loads(configs[file_name(run)]).items() >= dict(run.settings).items()
        own = [(step, json.loads(values)) for name, step, values in rows if name == file_name(run)]
        curves, (final, responses) = own[: len(run.curves)], [values for _, values in own[len(run.curves) :]]
        assert {step: values for step, values in curves} == {step: dict(v) for step, v in run.curves.items()}
        assert final == dict(run.final)
        assert [row["response"] for row in responses["responses"]["_value"]] == run.responses["response"].tolist()


def test_an_unknown_or_absent_tracker_is_refused(folder, monkeypatch):
    with pytest.raises(ConfigError, match="Known: tensorboard, wandb, trackio"):
        track(folder, "mlflow")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'preflab\[wandb\]'"):
        track(folder, "wandb")
    assert not (folder / "tracked").exists() and set(TRACKERS) == {"tensorboard", "wandb", "trackio"}


def test_names_of_runs_are_names_of_folders(runs):
    hostile = type(runs[0])("0123456789abcdef", "../a/b\\c:*\n<x>" * 20, "g", {}, {}, {}, runs[0].responses)
    assert "/" not in file_name(hostile) and "\\" not in file_name(hostile) and len(file_name(hostile)) < 100
    assert not file_name(hostile).startswith(".")
