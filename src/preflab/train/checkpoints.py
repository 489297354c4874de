"""Checkpoints of a running cell: safetensors and JSON, committed by one rename, the newest kept."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from preflab.core.errors import StoreError
from preflab.store.artefacts import committed_folder, verify, write_json, write_manifest

_KEPT = "kept.safetensors"


@dataclass(slots=True)
class Progress:
    """Where a run stands.

    Args:
        step: optimizer steps done.
        log: one record per step.
        monitor: one record per row and evaluation.
        state: what the method remembers, one list of numbers for each of its `Moments`.
        seconds: time spent, over all sessions.
        diverged: cause, when the step after `step` could not be taken; a run that diverged has ended.
        kept_step: optimizer steps behind the weights that a run that stops early keeps; None: the last ones.
    """

    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    monitor: list[dict[str, Any]] = field(default_factory=list)
    state: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    diverged: str | None = None
    kept_step: int | None = None


def save(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    moving: nn.Module | None = None,
    kept: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Commit a checkpoint and delete older ones.

    Args:
        folder: where checkpoints lie.
        parameters: the weights as they are.
        optimizer: its moments.
        progress: where the run stands.
        moving: a reference that training changes.
        kept: the weights of `progress.kept_step`.
    """
    final = folder / f"step-{progress.step:08d}"
    names = {id(p): name for name, p in parameters.items()}
    moments = {
        f"{names[id(p)]}/{key}": value.contiguous()
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    with committed_folder(final) as temporary:
        save_file({name: p.detach().contiguous() for name, p in parameters.items()}, temporary / "weights.safetensors")
        save_file(moments, temporary / "optimizer.safetensors")
        if moving is not None:
            save_model(moving, str(temporary / "reference.safetensors"))
        if kept:
            save_file(dict(kept), temporary / _KEPT)
        write_json(temporary / "progress.json", asdict(progress))
        write_manifest(temporary, {"step": progress.step}, {})
    for older in folder.glob("step-*"):
        if older != final:
            shutil.rmtree(older, ignore_errors=True)


def restore(
    folders: Sequence[Path],
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    moving: nn.Module | None = None,
) -> tuple[Progress, Mapping[str, torch.Tensor]]:
    """Load the newest whole checkpoint of the first folder that has one; without one, start at step 0.

    Returns:
        Where the run stands, and the weights that it keeps where they are not the last ones.
    """
    for path in (path for folder in folders for path in sorted(folder.glob("step-*"), reverse=True)):
        try:
            verify(path)
        except StoreError:
            continue
        weights = load_file(path / "weights.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])
        for key, value in moments.items():
            name, _, field = key.rpartition("/")
            parameter = parameters[name]
            # The fused AdamW keeps its step counters on the device of the parameter, like the moments.
            optimizer.state[parameter][field] = value.to(parameter.device)
        if moving is not None:
            load_model(moving, path / "reference.safetensors")
        kept = load_file(path / _KEPT) if (path / _KEPT).exists() else {}
        return Progress(**json.loads((path / "progress.json").read_text(encoding="utf-8"))), kept
    return Progress(), {}
