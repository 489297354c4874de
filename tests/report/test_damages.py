"""Damaged, foreign and hostile study folders: what is left is shown, the rest is named, nobody sees a traceback."""

import json
import os
import random
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from tests.report.on_disk import write_study
from tests.report.synthetic import Shape, make

from preflab.cli.main import run
from preflab.core.errors import ConfigError, StoreError
from preflab.report.index import Damage, load_index
from preflab.report.load import load_tables, whole_tables
from preflab.report.page import render
from preflab.report.status import study_status
from preflab.store.artefacts import write_manifest
from preflab.store.documents import is_whole, read_document, sealed
from preflab.store.ledger import is_locked, study_lock


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sealed study of two methods on disk."""
    shape = Shape(methods=("dpo", "ipo"), starts=("sft",), sizes=(64,), seeds=2, prompts=6)
    folder = write_study(tmp_path_factory.mktemp("whole"), make(shape))
    _seal(folder)
    return folder


@pytest.fixture
def study(whole, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "study")


def _seal(folder):
    index = read_document(folder / "index.json")
    (folder / "index.json").write_text(json.dumps(sealed({k: v for k, v in index.items() if k != "sha256"})))


def _change(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))
    _seal(folder)


def _trained(folder):
    return next(cell for cell in load_index(folder).cells if cell["method"] == "dpo")


def test_a_whole_study_has_no_damage(whole):
    tables = whole_tables(whole)
    assert tables.damages == () and tables.sealed
    assert 'id="damaged"' not in render(tables)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _foreign(path):
    pd.DataFrame({"other": ["table"]}).to_parquet(path)
    write_manifest(path.parent, {}, {})


def _words(path):
    pd.read_parquet(path).assign(row="third").to_parquet(path)
    write_manifest(path.parent, {}, {})


def _linked(path):
    moved = path.parents[4] / "outside.parquet"
    path.rename(moved)
    path.symlink_to(moved)


def _renamed(path):
    manifest = path.with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace("pairs.parquet", "pears.parquet"))


DAMAGES = {
    "differs from its manifest": _flip,
    "is missing": lambda path: path.unlink(),
    "outside of the study": _linked,
    "has no column row": _foreign,
    "other things than numbers in column row": _words,
    "its manifest does not name it": _renamed,
    "manifest of its folder is not there": lambda path: path.with_name("manifest.json").unlink(),
    "manifest of its folder is not whole JSON": lambda path: path.with_name("manifest.json").write_text('{"format"'),
    "is not of format 1": lambda path: path.with_name("manifest.json").write_text('{"format": 2}'),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_table_is_left_out_and_named_and_all_others_stay(study, said):
    cell = _trained(study)
    before = load_tables(study)
    DAMAGES[said](study / cell["evaluate"] / "pairs.parquet")
    tables = load_tables(study)
    assert said in tables.damages[0].what and tables.damages[0].cell.startswith("dpo from sft, 64 pairs, seed 0")
    assert cell["cell"] in set(before.pairs["cell"]) and cell["cell"] not in set(tables.pairs["cell"])
    assert set(tables.pairs["cell"]) == set(before.pairs["cell"]) - {cell["cell"]}
    pd.testing.assert_frame_equal(tables.dynamics, before.dynamics)
    with pytest.raises(StoreError, match="run the study again"):
        whole_tables(study)


def test_the_report_lists_what_is_damaged_and_ends_with_three(study, capsys):
    _flip(study / _trained(study)["evaluate"] / "responses.parquet")
    assert run(["report", str(study)]) == 3
    printed = capsys.readouterr()
    assert printed.out.strip() == str(study / "report.html")
    assert "responses.parquet: its content differs from its manifest; left out: its responses" in printed.err
    page = (study / "report.html").read_text()
    section = page.split('<section id="damaged"')[1].split("</section>")[0]
    assert "responses.parquet" in section and "Partial report" in page
    assert run(["report", str(study), "--json"]) == 3
    assert [d["cell"][:3] for d in json.loads(capsys.readouterr().out)["damages"]] == ["dpo"]


def test_many_damaged_files_are_folded_on_the_page(whole):
    damages = tuple(Damage(f"artefacts/{k}", "is missing", "it") for k in range(13))
    page = render(replace(load_tables(whole), damages=damages))
    section = page.split('<section id="damaged"')[1].split("</section>")[0]
    assert "All 13 files" in section and section.count("is missing") == 13 and "<details" in section


@pytest.mark.parametrize("place", ["../outside", "/etc", "artefacts/../../outside", "artefacts/\0"])
def test_an_index_leads_nowhere_outside_of_the_study(study, place):
    def elsewhere(index):
        index["cells"][1]["evaluate"] = place

    shutil.copytree(study / _trained(study)["evaluate"], study.parent / "outside")
    _change(study, elsewhere)
    tables = load_tables(study)
    assert {d.what for d in tables.damages} <= {"its place is outside of the study", "its place is no path"}
    assert [d.where.rpartition("/")[2] for d in tables.damages] == [
        "pairs.parquet", "responses.parquet", "snapshots.parquet"
    ]  # fmt: skip


def test_half_a_character_in_a_name_costs_nothing(study):
    def half(index):
        index["study"]["name"] = "half \ud800 a \U0001f999"
        index["study"]["cards"]["dpo"]["title"] = "DPO \udfff"

    _change(study, half)
    page = render(load_tables(study))
    assert "half ? a \U0001f999" in page and "DPO ?" in page


def test_links_in_a_circle_and_things_that_are_no_files_are_damage(study):
    folder = study / _trained(study)["evaluate"]
    for name in ("pairs.parquet", "responses.parquet"):
        (folder / name).unlink()
    (folder / "pairs.parquet").symlink_to("pairs.parquet")
    os.mkfifo(folder / "responses.parquet")
    assert {d.what for d in load_tables(study).damages} <= {"is missing", "its place is no path"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not whole JSON"),
        ("[" * 100_000, "is not whole JSON"),
        ('{"schema_version": 1, "study": {}, "cells": [NaN]}', "is not whole JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is no index of a study"),
        ('{"schema_version": 2, "study": {}, "cells": []}', "install a newer preflab"),
        ('{"schema_version": 1, "study": [], "cells": {}}', "is no index of a study"),
    ],
)
def test_an_index_that_cannot_be_read_is_one_sentence(study, capsys, text, said):
    (study / "index.json").write_text(text)
    assert run(["report", str(study)]) == 3
    assert run(["view", str(study), "--no-open"]) == 3
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: ") and said in line for line in errors)
    assert run(["status", str(study)]) == 3
    assert study_status(study)["damages"][0]["where"] == "index.json"


def test_a_folder_without_an_index_is_no_study(tmp_path, capsys):
    for words in (["report"], ["status"], ["view", "--no-open"]):
        for folder in (tmp_path, tmp_path / "none"):
            assert run([*words, str(folder)]) == 2
            assert "no study here" in capsys.readouterr().err
    (tmp_path / "index.json").mkdir()
    with pytest.raises(StoreError, match="is not there, or no file"):
        load_index(tmp_path)


def test_a_study_that_may_not_be_read_is_one_sentence(whole, study, capsys):
    """A superuser may read anything, so the test is somebody else for a moment."""
    run(["report", str(whole), "--out", str(study / "page.html")])  # imports what a command needs
    capsys.readouterr()
    study.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        codes = [run([word, str(study)]) for word in ("report", "status")]
    finally:
        os.seteuid(user)
        study.chmod(0o755)
    assert codes == [3, 3]
    for line in capsys.readouterr().err.splitlines():
        assert "cannot be read (Permission denied)" in line and "ask its owner" in line


def test_a_study_of_somebody_else_is_shown_with_whether_it_runs(study, monkeypatch):
    with study_lock(study):
        monkeypatch.setattr("os.access", lambda path, mode: False)
        assert is_locked(study)
    assert not is_locked(study)
    (study / ".lock").touch()
    assert not is_locked(study)


WRONG = {
    "size": "many", "seed": True, "status": "splendid", "learning_rate": "1e-4", "tokens": 10**400, "start": None,
    "train": 7, "benchmarks": ["x"], "hyperparameters": "beta", "selected": None,
}  # fmt: skip


@pytest.mark.parametrize("key", WRONG)
def test_a_cell_that_cannot_be_is_left_out_and_the_others_stay(study, key):
    _change(study, lambda index: index["cells"][1].update({key: WRONG[key]}))
    index = load_index(study)
    if key == "selected":  # what is not known yet
        assert len(index.cells) == 5 and not index.damages
    else:
        assert len(index.cells) == 4 and index.damages[0].what.startswith("entry 2 of the cells: ")


def test_a_trained_cell_has_a_size_and_a_start_point_has_none(study):
    _change(study, lambda index: [cell.update(size=0 if cell["method"] else 64) for cell in index["cells"]])
    assert [d.what[-34:] for d in load_index(study).damages] == [": its size is not what it should be"[-34:]] * 5


def test_a_record_of_the_study_that_cannot_be_is_left_out(study):
    wrong = {"cards": {"dpo": []}, "notes": "none", "data": {"splits": 3}, "wall_s": float("1e999"), "name": 5}

    def change(index):
        index["study"].update(wrong)

    index = json.loads((study / "index.json").read_text())
    change(index)
    (study / "index.json").write_text(json.dumps(index).replace("Infinity", "1e999"))
    tables = load_tables(study)
    assert not set(wrong) & set(tables.study)
    assert len(tables.damages) == 1 + len(wrong)  # and the seal is broken
    assert "without a name" in render(tables)


def test_a_number_that_was_changed_by_hand_breaks_the_seal(study):
    path = study / "index.json"
    text = path.read_text()
    assert is_whole(read_document(path)) is True
    path.write_text(text.replace('"size": 64', '"size": 65', 1))
    assert is_whole(read_document(path)) is False
    assert load_tables(study).damages[0].what == "it was changed after it was written"
    assert is_whole({"any": "thing"}) is None


def test_nothing_is_exported_from_a_study_that_is_not_whole(study, capsys):
    _flip(study / _trained(study)["evaluate"] / "pairs.parquet")
    assert run(["export", str(study), "--best"]) == 3
    assert "content differs from its manifest" in capsys.readouterr().err
    assert not (study / "exported").exists()


def test_an_error_in_the_report_of_a_whole_study_is_ours_and_of_a_damaged_one_is_the_files(study, monkeypatch):
    def broken(analysis):
        raise KeyError("gone")

    monkeypatch.setattr("preflab.report.page.page_context", broken)
    with pytest.raises(KeyError):
        render(load_tables(study))
    (study / "index.json").write_text((study / "index.json").read_text().replace('"size": 64', '"size": 65', 1))
    with pytest.raises(StoreError, match=r"nothing can be shown of this study: index\.json"):
        render(load_tables(study))


def _mutated(rng, data):
    place, kind = rng.randrange(len(data)), rng.choice(["bit", "cut", "sign", "gone", "more", "swap"])
    if kind == "bit":
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if kind == "swap":
        other = rng.randrange(len(data))
        return data[:place] + data[other : other + 20] + data[place + 20 :]
    middle = {"cut": b"", "gone": b"", "sign": bytes([rng.choice(b'[]{}":,0-9nN')]), "more": rng.randbytes(5)}[kind]
    rest = {"cut": len(data), "gone": place + rng.randrange(1, 30), "sign": place + 1, "more": place}[kind]
    return data[:place] + middle + data[rest:]


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_anywhere_is_found_or_harmless(whole, study, seed):
    """Flips, cuts and insertions in every file: the tables or a sentence, and no changed number without a damage."""
    rng = random.Random(seed)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.suffix in (".json", ".parquet"))
    before = load_tables(whole)
    for file in [*files, *[files[-2]] * 10, *[files[-1]] * 10]:
        path = study / file
        data = path.read_bytes()
        path.write_bytes(_mutated(rng, data))
        try:
            study_status(study)
            tables = load_tables(study)
        except (ConfigError, StoreError) as error:
            assert "\n" not in str(error)
        else:
            if not tables.damages:
                for name in ("cells", "pairs", "responses", "dynamics", "log"):
                    pd.testing.assert_frame_equal(getattr(tables, name), getattr(before, name))
        path.write_bytes(data)


@pytest.mark.parametrize("seed", range(6))
def test_the_page_of_a_randomly_damaged_study_is_made_or_refused_in_a_sentence(study, seed, capsys):
    rng = random.Random(seed)
    place = ["index.json", *sorted(str(p.relative_to(study)) for p in study.rglob("*.parquet"))][seed * 3]
    path = study / place
    path.write_bytes(_mutated(rng, path.read_bytes()))
    assert run(["report", str(study)]) in (0, 3)
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and "bug" not in errors
