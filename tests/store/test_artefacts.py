import json
import multiprocessing
import os
import time

import pytest

from preflab.core.errors import ConfigError, StoreError, StudyLocked
from preflab.store.artefacts import MANIFEST, StageSpec, Store, committed_folder, read_artefact, verify, write_json
from preflab.store.ledger import Ledger, study_lock

SPEC = StageSpec("train", 1, {"beta": 0.1}, {"start": "abc"}, {"dtype": "float32"})


def commit(store, text="hello", spec=SPEC):
    with store.write(spec, {"n": 1}) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.bin").write_bytes(b"\0\1\2")
    return store.get(spec)


def test_a_committed_artefact_is_found_and_whole(tmp_path):
    store = Store(tmp_path)
    assert store.find(SPEC) is None
    artefact = commit(store)
    assert artefact.info == {"n": 1} and artefact.file("a.txt").read_text() == "hello"
    verify(artefact.path)


def test_every_part_of_a_spec_changes_the_id():
    other = [
        StageSpec("sft", 1, {"beta": 0.1}, {"start": "abc"}, {"dtype": "float32"}),
        StageSpec("train", 2, {"beta": 0.1}, {"start": "abc"}, {"dtype": "float32"}),
        StageSpec("train", 1, {"beta": 0.2}, {"start": "abc"}, {"dtype": "float32"}),
        StageSpec("train", 1, {"beta": 0.1}, {"start": "abd"}, {"dtype": "float32"}),
        StageSpec("train", 1, {"beta": 0.1}, {"start": "abc"}, {"dtype": "float64"}),
    ]
    assert len({SPEC.id, *(spec.id for spec in other)}) == 6


def test_an_error_while_writing_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.write(SPEC, {}) as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError
    assert store.find(SPEC) is None and list((tmp_path / "train").iterdir()) == []


def test_a_kill_while_writing_leaves_nothing_that_counts(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    store = Store(tmp_path)
    (leftover,) = tmp_path.glob("*/.tmp-*")
    assert store.find(SPEC) is None
    store.sweep()
    assert leftover.exists()  # it may be another process's work
    os.utime(leftover, (0, 0))
    store.sweep()
    assert not leftover.exists()


def _write_and_die(root):
    with Store(root).write(SPEC, {}) as folder:
        (folder / "a.txt").write_text("half")
        os._exit(9)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete", "manifest", "no manifest"])
def test_damage_is_found_before_use_and_mended_by_writing_again(tmp_path, damage):
    store = Store(tmp_path)
    path = commit(store).path
    match damage:
        case "flip":
            (path / "a.txt").write_text("hellp")
        case "cut":
            (path / "a.txt").write_text("hell")
        case "empty":
            (path / "sub" / "b.bin").write_bytes(b"")
        case "delete":
            (path / "a.txt").unlink()
        case "manifest":
            (path / MANIFEST).write_text((path / MANIFEST).read_text()[:-20])
        case "no manifest":
            (path / MANIFEST).unlink()
    assert store.find(SPEC) is None
    if damage == "flip":  # same size: only the hash tells
        with pytest.raises(StoreError, match="content differs"):
            verify(path)
    assert commit(store).file("a.txt").read_text() == "hello"
    verify(path)


def test_a_manifest_of_another_format_is_refused(tmp_path):
    path = commit(Store(tmp_path)).path
    manifest = json.loads((path / MANIFEST).read_text())
    write_json(path / MANIFEST, {**manifest, "format": 99})
    with pytest.raises(StoreError, match="format 99"):
        read_artefact(path)


@pytest.mark.parametrize(
    "text", ["[]", "3", "{}", "[" * 100_000, '{"format": 1, "files": []}', '{"format": 1, "files": {"a.txt": []}}',
             '{"format": 1, "files": {"a.txt": {"bytes": 5}}, "spec": {}, "info": {}}', '{"format": 1, "files": {}}'],
)  # fmt: skip
def test_a_manifest_of_any_other_shape_is_damage(tmp_path, text):
    path = commit(Store(tmp_path)).path
    (path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match="damaged artefact"):
        verify(path)


def test_nan_never_enters_a_manifest(tmp_path):
    with pytest.raises(ValueError, match="JSON"), Store(tmp_path).write(SPEC, {"x": float("nan")}):
        pass


def test_two_writers_of_one_study_exclude_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(10)
    with pytest.raises(StudyLocked, match=f"process {holder.pid}"), study_lock(tmp_path):
        pass
    assert StudyLocked.exit_code == 75
    holder.kill()
    holder.join()
    with study_lock(tmp_path):
        pass


def _hold(study, ready):
    with study_lock(study):
        ready.set()
        time.sleep(60)


def test_the_ledger_survives_a_cut_last_line(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("started", stage="a")
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"time": "2026')
    assert [e["event"] for e in ledger.events()] == ["started"]


def test_the_event_after_a_cut_line_and_lines_with_any_character_are_kept(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("failed", error="one\u2028two\u0085three")
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"event": "ru')
    ledger.append("run")
    assert [event["event"] for event in ledger.events()] == ["failed", "run"]
    assert ledger.events()[0]["error"] == "one\u2028two\u0085three"


def test_a_folder_that_somebody_made_meanwhile_is_left_alone(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="appeared meanwhile"), committed_folder(out, replace=False) as temporary:
        (temporary / "model").touch()
        out.mkdir()
        (out / "thesis.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.txt"]


def test_progress_is_seen_by_others_and_forgotten_at_the_end(tmp_path):
    Ledger(tmp_path).report_progress("t", {"done": 1, "total": 2})
    assert Ledger(tmp_path).progress()[0]["done"] == 1
    Ledger(tmp_path).end_progress("t")
    assert Ledger(tmp_path).progress() == []


@pytest.mark.parametrize("place", ["file", "file/study"])
def test_a_folder_that_cannot_be_made_is_refused_with_the_remedy(tmp_path, place):
    (tmp_path / "file").touch()
    told = r"cannot be made or written .*; choose another folder with --out"
    with pytest.raises(ConfigError, match=told), study_lock(tmp_path / place):
        pass
