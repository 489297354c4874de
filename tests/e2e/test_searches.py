"""Studies that save work by declaration: sizes that share steps (wsd), settings that stop early (tune)."""

import json
import signal
import subprocess
from collections import Counter

import pandas as pd
import pytest
from tests.e2e.test_groups import LORA
from tests.e2e.test_study import PREFLAB, assert_same, contents, environment, preflab, wait_for_artefacts
from tests.tiny import write_tiny_world

STUDY = (
    """
study: searched
models: {{base: {model}}}
methods:
  dpo: {{learning_rate: {rates}}}
  simpo: {{learning_rate: {rates}}}
sizes: [{sizes}]
seeds: 2
"""
    + LORA
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, data = write_tiny_world(folder)
    rates = "[1e-4, 1e-3, 1e-2, 3e-2]"
    (folder / "tune.yaml").write_text(
        STUDY.format(model=model, data=data, rates=rates, sizes=36) + "tune: {factor: 2, rungs: 2}\n"
    )
    study = STUDY.format(model=model, data=data, rates="1e-2", sizes="12, 24, 36")
    (folder / "wsd.yaml").write_text(study.replace("batch_size: 4", "batch_size: 4, schedule: wsd"))
    return folder


def index(study):
    return pd.DataFrame(json.loads((study / "index.json").read_text())["cells"])


def steps_done(study):
    """Return the optimizer steps that were computed, by kind of stage."""
    done = Counter()
    for path in study.glob("artefacts/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["spec"]["stage"] in ("leg", "train"):
            done[manifest["spec"]["stage"]] += manifest["info"]["n_steps"]
    return done


def rungs(study):
    """Return the validation value of every leg."""
    specs = {path.parent.name: json.loads(path.read_text())["spec"] for path in study.glob("artefacts/leg/*/*.json")}
    rows = []
    for path in study.glob("artefacts/validate/*/manifest.json"):
        manifest = json.loads(path.read_text())
        leg = next((spec for name, spec in specs.items() if manifest["spec"]["inputs"]["train"].startswith(name)), None)
        if leg is not None:
            params = leg["params"]
            rate, method, until = params["settings"]["learning_rate"], params["method"], params["until"]
            rows.append({"method": method, "until": until, "rate": rate, "value": manifest["info"]["value"]})
    return pd.DataFrame(rows)


def killed(study_file, out, cache, n):
    """Run the installed command and kill it once `n` artefacts of cells are there."""
    with subprocess.Popen(
        [PREFLAB, "run", study_file, "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(cache),
        start_new_session=True,
    ) as process:
        wait_for_artefacts(process, out, n)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def tuned(world, tmp_path_factory):
    cache, out = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs") / "tuned"
    plan = json.loads(preflab("plan", world / "tune.yaml", "--out", out, "--json", cache=cache).stdout)
    preflab("run", world / "tune.yaml", "--out", out, cache=cache)
    return out, cache, plan


def test_settings_stop_at_the_rungs_and_the_report_says_so(tuned):
    out, _, plan = tuned
    cells = index(out)
    trained = cells[cells["method"] != ""]
    for _, group in trained.groupby(["method", "seed"]):
        # 36 rows are 9 steps: the rungs are after 3 and 5 of them.
        assert Counter(group["status"]) == {"stopped": 3, "done": 1}
        assert sorted(group["step"].dropna()) == [3, 3, 5]
        assert group[group["selected"]]["status"].tolist() == ["done"]
    for (method, until), group in rungs(out).groupby(["method", "until"]):
        means = group.groupby("rate")["value"].mean()
        stopped = trained[(trained["step"] == until) & (trained["method"] == method)]["learning_rate"]
        behind = means[means.index.isin(stopped)]
        assert len(behind) == len(means) // 2 and behind.max() <= means.drop(behind.index).min()
        needed = trained[(trained["step"] == until) & (trained["method"] == method)]["needed"]
        assert needed.tolist() == pytest.approx([means.drop(behind.index).min()] * len(needed))
    page = (out / "report.html").read_text()
    assert "Settings that stopped early" in page and "successive halving" in page
    assert plan["undecided"] == {"leg": 8, "train": 4, "validate": 8, "evaluate": 4, "diagnose": 4}


def test_a_search_that_is_killed_continues_to_the_same_bits(world, tuned, tmp_path):
    out, cache, _ = tuned
    killed(world / "tune.yaml", tmp_path / "stopped", cache, 2)
    preflab("run", world / "tune.yaml", "--out", tmp_path / "stopped", cache=cache)
    assert_same(contents(tmp_path / "stopped"), contents(out))


def test_a_setting_that_is_added_meets_the_others_where_they_stopped(world, tuned, tmp_path):
    out, cache, _ = tuned
    before = {path.parent.name for path in out.glob("artefacts/leg/*/manifest.json")}
    rates = "methods.dpo.learning_rate=[1e-4, 1e-3, 1e-2, 3e-2, 1e-5]"
    preflab("run", world / "tune.yaml", "--out", out, "--set", rates, cache=cache)
    assert before <= {path.parent.name for path in out.glob("artefacts/leg/*/manifest.json")}
    dpo = index(out).query("method == 'dpo'")
    assert Counter(dpo["status"]) == {"stopped": 6, "done": 4}


def test_sizes_share_their_steps_under_wsd(world, tmp_path):
    preflab("run", world / "wsd.yaml", "--out", tmp_path, cache=tmp_path / "cache")
    cells = index(tmp_path).query("method != ''")
    assert set(cells["status"]) == {"done"}
    assert cells.groupby("size")["n_steps"].unique().map(list).to_dict() == {12: [3], 24: [6], 36: [9]}
    legs = [json.loads(path.read_text())["spec"]["params"]["until"] for path in tmp_path.glob("artefacts/leg/*/*.json")]
    assert Counter(legs) == {2: 4, 4: 4}  # for two methods and two seeds
    logs = {row.size: pd.read_parquet(tmp_path / row.train / "log.parquet") for row in cells.itertuples()}
    assert logs[12]["loss"][:2].tolist() == logs[24]["loss"][:2].tolist() == logs[36]["loss"][:2].tolist()
    assert logs[24]["loss"][:4].tolist() == logs[36]["loss"][:4].tolist()
    assert logs[24]["learning_rate"][5] < logs[36]["learning_rate"][5] == pytest.approx(1e-2)
    assert "share their steps" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (["train.epochs=2"], "cannot share the steps of smaller sizes"),
        (["tune={}"], "tune: with the schedule wsd, name one size"),
        (["train.schedule=cosine", "train.decay_frac=0.1"], "decay_frac belongs to the schedule wsd"),
        (["train.decay_frac=0.95"], "are shares of the same steps"),
    ],
)
def test_what_cannot_be_shared_is_refused(world, tmp_path, changes, cause):
    words = [word for change in changes for word in ("--set", change)]
    done = preflab("plan", world / "wsd.yaml", "--out", tmp_path, *words, cache=tmp_path / "cache", check=2)
    assert cause in done.stderr


def test_an_arm_that_stops_early_stands_beside_the_one_that_does_not(world, tmp_path):
    """Both take the same steps until one ends; killed and continued, both end with the same bits."""
    text = (world / "wsd.yaml").read_text().replace("schedule: wsd", "schedule: cosine")
    text = text.replace("dpo: {", "dpo: {stop: [never, chosen], ").replace("1e-2", "3e-2").replace("12, 24, 36", "36")
    study, cache = tmp_path / "stop.yaml", tmp_path / "cache"
    study.write_text(text.replace("monitor_points: 2", "monitor_points: 10, patience: 2"))
    preflab("run", study, "--out", tmp_path / "whole", cache=cache)
    killed(study, tmp_path / "parts", cache, 2)
    preflab("run", study, "--out", tmp_path / "parts", cache=cache)
    assert_same(contents(tmp_path / "parts"), contents(tmp_path / "whole"))
    cells = index(tmp_path / "whole").query("method != ''")
    assert Counter(cells["method"]) == {"dpo": 2, "dpo-stop": 2, "simpo": 2} and set(cells["status"]) == {"done"}
    assert cells["planned_steps"].unique().tolist() == [9]
    for _, pair in cells[cells["method"].isin(["dpo", "dpo-stop"])].groupby("seed"):
        plain, stopped = (pair[pair["method"] == name].iloc[0] for name in ("dpo", "dpo-stop"))
        folders = [tmp_path / "whole" / cell["train"] for cell in (plain, stopped)]
        logs, monitors = ([pd.read_parquet(f / f"{n}.parquet") for f in folders] for n in ("log", "monitor"))
        chosen = monitors[0].groupby("step")["chosen_total"].mean().drop(0)
        assert pd.isna(plain["kept_step"]) and plain["n_steps"] == 9
        assert stopped["kept_step"] == chosen[: int(stopped["n_steps"])].idxmax()
        assert stopped["n_steps"] == min(9, stopped["kept_step"] + 2)
        both = logs[0]["loss"][: len(logs[1])].tolist()
        assert both == pytest.approx(logs[1]["loss"].tolist(), rel=1e-4)
    assert (cells["n_steps"] < 9).any()
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "DPO with early stopping" in page and "; kept after " in page and "dpo-stop keep the weights" in page


def test_all_settings_are_evaluated_on_demand_and_nothing_is_trained_or_selected_anew(world, tmp_path):
    cache, out, file = tmp_path / "cache", tmp_path / "out", tmp_path / "grid.yaml"
    study = (world / "tune.yaml").read_text().partition("tune:")[0]
    file.write_text(study.replace("[1e-4, 1e-3, 1e-2, 3e-2]", "[1e-3, 1e-2]"))
    preflab("run", file, "--out", out, cache=cache)
    before = index(out)
    trained = sorted(path.name for path in out.glob("artefacts/train/*"))
    assert before.loc[~before["selected"], "evaluate"].isna().all()
    command = ("--set", "evaluate.settings=all", "--out", out)
    plan = json.loads(preflab("plan", file, *command, "--json", cache=cache).stdout)["stages"]
    assert [stage["kind"] for stage in plan if not stage["done"]] == ["evaluate"] * 4
    preflab("run", file, *command, cache=cache)
    after = index(out)
    assert sorted(path.name for path in out.glob("artefacts/train/*")) == trained
    assert after["evaluate"].notna().all()
    assert after["selected"].tolist() == before["selected"].tolist()
    assert after.loc[after["selected"], "evaluate"].tolist() == before.loc[before["selected"], "evaluate"].tolist()
