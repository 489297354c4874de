"""Checkpoints of a running cell: safetensors and JSON, committed by one rename, the newest kept."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from preflab.core.errors import StoreError
from preflab.store.artefacts import committed_folder, verify, write_json, write_manifest

_ROLLOUT = "rollout.safetensors"
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
        answers: one record per answer that the policy sampled, where it learns from its own.
        snapshots: one record per answer to a fixed prompt, with `step`, where the run is to show how answers change.
        kept_step: optimizer steps behind the weights that a run that stops early keeps; None: the last ones.
    """

    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    monitor: list[dict[str, Any]] = field(default_factory=list)
    state: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    diverged: str | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    kept_step: int | None = None


class Restored(NamedTuple):
    """What a checkpoint holds beside weights and moments."""

    progress: Progress
    kept: Mapping[str, torch.Tensor]
    """The weights of `progress.kept_step`, where these are not the last ones."""
    rollout: Mapping[str, NDArray[Any]] | None
    """Answers that the next steps still learn from."""


def save(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    moving: nn.Module | None = None,
    *,
    kept: Mapping[str, torch.Tensor] = MappingProxyType({}),
    rollout: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Commit a checkpoint and delete older ones.

    Args:
        folder: of the run's checkpoints.
        parameters: the weights as they are.
        optimizer: with its moments.
        progress: where the run stands.
        moving: a reference that training changes.
        kept: the weights of `progress.kept_step`.
        rollout: answers that the next steps still learn from.
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
        if rollout is not None:
            save_arrays(dict(rollout), temporary / _ROLLOUT)
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
) -> Restored:
    """Load the newest whole checkpoint of the first folder that has one; without one, start at step 0."""
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
        return Restored(
            Progress(**json.loads((path / "progress.json").read_text(encoding="utf-8"))),
            load_file(path / _KEPT) if (path / _KEPT).exists() else {},
            load_arrays(path / _ROLLOUT) if (path / _ROLLOUT).exists() else None,
        )
    return Restored(Progress(), {}, None)
