"""A trained model of a study as a plain folder that transformers or PEFT load, with a model card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from preflab.core.errors import ConfigError, StoreError
from preflab.models.adapters import load_adapter, merge
from preflab.models.checkpoints import Checkpoint
from preflab.models.load import end_token_ids, load_model, load_tokenizer, quiet
from preflab.report.analysis import Analysis, analyse
from preflab.report.answer import Answer, answer
from preflab.report.load import whole_tables
from preflab.report.model_card import Choice, is_hub_id, model_card
from preflab.report.wording import count
from preflab.store.artefacts import committed_folder, read_artefact, verify, write_json

_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A trained model outside of its study.

    Args:
        folder: where it is now.
        cell: id of its cell.
        start: start point.
        method: method.
        setting: hyper-parameters.
        size: training pairs.
        seed: seed of its training.
        kind: `weights`, `adapter` or `merged adapter`.
        status: what the study answers, as in `preflab report --json`.
        reasons: why this cell, one sentence each.
    """

    folder: str
    cell: str
    start: str
    method: str
    setting: str
    size: int
    seed: int
    kind: str
    status: str
    reasons: tuple[str, ...]


def export_model(
    study: Path, out: Path | None = None, *, cell: str | None = None, merged: bool = False, command: str = ""
) -> ExportedModel:
    """Save a trained model with its tokenizer, generation settings and a model card.

    An adapter is saved as such where its base is a model that others have; one that sits on the study's own SFT is
    folded into it.

    Args:
        study: folder of the study.
        out: folder to make; default: `exported/` in the study.
        cell: id of a cell; default: of the method that the report puts first, the seed that validation prefers.
        merged: fold an adapter into its base in any case.
        command: the command line, for the card.

    Raises:
        ConfigError: nothing was trained, no such cell, or `out` is there already.
        StoreError: the artefact is damaged, or what was saved does not load whole.
    """
    quiet()
    analysis = analyse(whole_tables(study))
    verdict = answer(analysis)
    record, how, why = _chosen(analysis, verdict, cell, study)
    out = out or study / "exported" / f"{record['method']}-{record['start']}-{record['size']}-seed{record['seed']}"
    if out.exists():
        raise ConfigError(f"{out}: is there already; name a new folder with --out.")
    artefact = read_artefact(study / str(record["train"]))
    verify(artefact.path)
    folder = artefact.file("model")
    base = _base(analysis, str(record["start"]))
    own = is_hub_id(base) or Path(base).exists()  # others can have it, or this machine has
    kind = "weights"
    if (folder / _ADAPTER).exists():
        kind = "adapter" if own and record["start"] != "sft" and not merged else "merged adapter"
    choice = Choice(record, how, why, kind, base, command)
    with committed_folder(out, replace=False) as temporary:
        _save(study, artefact.spec, folder, temporary, kind, base)
        (temporary / "README.md").write_text(model_card(analysis, verdict, choice), encoding="utf-8")
        _check(temporary, kind)
    return ExportedModel(
        str(out), str(record["cell"]), str(record["start"]), str(record["method"]), str(record["setting"]),
        int(record["size"]), int(record["seed"]), kind, verdict.status, (how, why),
    )  # fmt: skip


def _chosen(analysis: Analysis, verdict: Answer, cell: str | None, study: Path) -> tuple[dict[str, Any], str, str]:
    """Return the record of the cell that is exported, why its method and why its seed."""
    cells = analysis.tables.cells
    trained = cells[(cells["method"] != "") & (cells["status"] == "done") & cells["train"].notna()]
    if cell is not None:
        found = trained[trained["cell"] == cell]
        if found.empty:
            raise ConfigError(
                f"--cell {cell}: {study} has no finished training of that id; `preflab report {study} --json` and its "
                "index.json name them."
            )
        return found.iloc[0].to_dict(), f"Named by its id among {count(len(trained), 'trained model')}.", ""
    winner = verdict.winner
    if winner is None:
        raise ConfigError(f"{study}: no finished and evaluated cell yet, so there is no best; run the study first.")
    group = trained[(trained["start"] == winner.start) & (trained["method"] == winner.method)]
    group = group[(group["size"] == winner.size) & group["selected"]]
    n_settings = cells.loc[cells["method"] != "", ["start", "method", "setting"]].drop_duplicates().shape[0]
    how = (
        f"{verdict.headline}. Chosen among {count(n_settings, 'setting')} of {count(len(analysis.methods), 'method')} "
        f"from {count(len(analysis.starts), 'start point')}."
    )
    if group["validation"].notna().all() and len(group) > 1:
        best = group.loc[group["validation"].idxmax()].to_dict()
        return best, how, f"Of its {len(group)} seeds, seed {best['seed']} scored best on validation."
    first = group.loc[group["seed"].idxmin()]
    why = (
        f"Of its {count(len(group), 'seed')} it is the first; none was scored on validation." if len(group) > 1 else ""
    )
    return first.to_dict(), how, why


def _base(analysis: Analysis, start: str) -> str:
    """Return the model a start point is, as the study names it; SFT starts from the base model."""
    models = analysis.tables.study.get("models", {})
    found = models.get("instruct" if start == "instruct" else "base", {})
    return str(found.get("source") or "")


def _save(study: Path, spec: Any, folder: Path, to: Path, kind: str, base: str) -> None:
    tokenizer = load_tokenizer(folder)
    if kind == "adapter":
        for name in (_ADAPTER, "adapter_model.safetensors"):
            (to / name).write_bytes((folder / name).read_bytes())
        recorded = json.loads((to / _ADAPTER).read_text(encoding="utf-8"))
        snapshot = Path(str(recorded["base_model_name_or_path"]))
        if is_hub_id(base):
            recorded |= {"base_model_name_or_path": base, "revision": snapshot.name or None}
        write_json(to / _ADAPTER, recorded)
        tokenizer.save_pretrained(to)
        return
    dtype = str(spec["numeric"]["dtype"])
    if kind == "weights":
        model, ends = load_model(folder, dtype=dtype, device="cpu"), end_token_ids(folder, tokenizer)
    else:
        start = start_folder(study, spec, folder)
        model = merge(load_adapter(load_model(start, dtype=dtype, device="cpu"), folder))
        ends = end_token_ids(start, tokenizer)
    if model.generation_config is not None:
        # What ended a response in the study ends it for others.
        model.generation_config.eos_token_id = list(ends)
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(to)
    for path in to.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for its owner only
    tokenizer.save_pretrained(to)


def start_folder(study: Path, spec: Any, adapter: Path) -> Path:
    """Return the weights that an adapter sits on: the study's own SFT wherever the study is now, or what it records."""
    sft = study / "artefacts" / "sft" / str(spec["inputs"]["start"])[:20] / "model"
    if sft.exists():
        verify(sft.parent)
        return sft
    recorded = Path(str(json.loads((adapter / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]))
    if not recorded.exists():
        raise ConfigError(f"{recorded}: the model that this adapter sits on is not there any more; put it back.")
    return recorded


def _check(folder: Path, kind: str) -> None:
    """Load what was saved as others would, and see that nothing is missing in it."""
    if kind == "adapter":
        recorded = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
        if Path(recorded).exists():
            Checkpoint(str(folder), folder, Path(recorded)).load(dtype="float32", device="cpu")
        return
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    found = loaded[1]
    wrong = {key: found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if found[key]}
    if wrong:
        raise StoreError(f"{folder}: what was saved does not load whole ({wrong}); this is a bug of preflab.")
