"""Print what functions of trl 0.24.0 give on the peer batch of the tests: losses that later versions no longer have.

The functions are read out of the package's source and run as they stand; importing the trainers would need libraries
of their time.
"""

import ast
import importlib.metadata
import importlib.util
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from batch import POLICY_CHOSEN, POLICY_REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED, report

VERSION = "0.24.0"


def source_of(module: str, path: str) -> str:
    """Return the source of `Class.method` or of a class in a module of the package."""
    found = importlib.util.find_spec("trl")
    assert found is not None and found.origin is not None
    text = Path(found.origin).parent.joinpath(module).read_text(encoding="utf-8")
    scope: Any = ast.parse(text)
    for name in path.split("."):
        scope = next(node for node in scope.body if getattr(node, "name", None) == name)
    first = min([scope.lineno, *(node.lineno for node in scope.decorator_list)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : scope.end_lineno]))


def taken(module: str, path: str) -> Callable[..., Any]:
    """Return a function or class of the package, compiled on its own."""
    names: dict[str, Any] = {"torch": torch, "F": F, "dataclass": dataclass, "Accelerator": object}
    names |= {"Optional": Optional, "Union": Union, "Enum": Enum}
    if module == "trainer/dpo_trainer.py":
        names["FDivergenceType"] = taken("trainer/dpo_config.py", "FDivergenceType")
    exec(compile(source_of(module, path), path, "exec"), names)
    made: Callable[..., Any] = names[path.rpartition(".")[2]]
    return made


def trainer(**settings: Any) -> SimpleNamespace:
    """Return the little of a trainer that the functions read."""
    moments = taken("trainer/utils.py", "RunningMoments")
    local = SimpleNamespace(use_distributed=False, device="cpu")
    defaults = {"label_smoothing": 0.0, "reference_free": False, "f_divergence_type": "reverse_kl"}
    return SimpleNamespace(running=moments(local), accelerator=local, **{**defaults, **settings})


if __name__ == "__main__":
    assert importlib.metadata.version("trl") == VERSION
    sides = (POLICY_CHOSEN, POLICY_REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED)
    paired = taken("trainer/dpo_trainer.py", "DPOTrainer.dpo_loss")
    report("bco", paired(trainer(beta=0.1), *sides, "bco_pair")[0].mean())
    unpaired = taken("trainer/bco_trainer.py", "BCOTrainer.bco_loss")
    report(
        "bco_unpaired", unpaired(trainer(beta=0.1, match_underlying_distribution=False), *sides, None, None)[0].mean()
    )
