"""The batch on which peers' functions are evaluated: the one called `peer` in tests/methods/conftest.py."""

import torch


def double(*values: float) -> torch.Tensor:
    """Return float64 values, [pair]."""
    return torch.tensor(values, dtype=torch.float64)


POLICY_CHOSEN = double(-12.0, -14.0, -30.5)
POLICY_REJECTED = double(-15.0, -12.0, -22.25)
POLICY_GOLD = double(-9.0, -16.0, -11.5)
POLICY_MISMATCHED = double(-40.0, -35.5, -50.0)
REFERENCE_CHOSEN = double(-13.0, -13.0, -28.0)
REFERENCE_REJECTED = double(-14.0, -14.0, -25.5)
REFERENCE_MISMATCHED = double(-41.0, -37.0, -50.25)
CHOSEN_LENGTH = double(8, 8, 20)
REJECTED_LENGTH = double(12, 12, 10)
GOLD_LENGTH = double(6, 10, 7)


def report(method: str, mean_loss: torch.Tensor | float) -> None:
    """Print one value, as tests/methods/test_<method>.py holds it."""
    print(f"{method} {float(mean_loss)!r}")
