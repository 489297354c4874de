from dataclasses import replace

import pytest

from preflab.studies import calibrate
from preflab.studies.calibrate import Costs, Probe, measure

GIB = 2**30
# Rounded from probes of the pocket model and of SmolLM2-135M with LoRA, one thread and two.
POCKET = Costs(
    train=13_800, launch_s=0.010, optimizer_s=0.0005, score=28_000, generate=9000, load_s=0.4, shares_prompts=True,
    fixed_bytes=0.36 * GIB, token_bytes=80e3, cell_bytes=2.5e6,
)  # fmt: skip
SMOLLM2 = Costs(
    train=300, launch_s=0.1, optimizer_s=0.02, score=600, generate=60, load_s=0.5, shares_prompts=True,
    fixed_bytes=1.0 * GIB, token_bytes=1.9e6, cell_bytes=78e6,
)  # fmt: skip


@pytest.mark.parametrize("noise", [0.8, 1.0, 1.25])
def test_memory_that_is_hardly_noticed_is_spent_on_fewer_passes(noise):
    assert replace(POCKET, launch_s=noise * POCKET.launch_s).token_budget(12 * GIB) == 4096


@pytest.mark.parametrize("noise", [0.5, 1.0, 5.0])
def test_memory_that_is_noticed_is_spent_when_starting_operations_is_what_takes_the_time(noise):
    assert replace(SMOLLM2, launch_s=noise * SMOLLM2.launch_s).token_budget(24 * GIB) == 1024
    assert replace(SMOLLM2, launch_s=20 * SMOLLM2.launch_s).token_budget(24 * GIB) == 4096


def test_a_budget_that_does_not_fit_is_halved():
    assert SMOLLM2.token_budget(3 * GIB) == 512
    assert SMOLLM2.memory(512) < 0.8 * 3 * GIB < SMOLLM2.memory(1024)


def test_cells_fit_as_long_as_their_moments_do():
    room = 0.8 * 12 * GIB - POCKET.memory(4096)
    assert POCKET.cells_that_fit(12 * GIB, 4096) == 1 + int(room / POCKET.cell_bytes)
    assert SMOLLM2.cells_that_fit(1 * GIB, 1024) == 1


@pytest.mark.parametrize(
    ("others_then", "busy_now", "probes"),
    [(0.02, 0.0, 1), (0.5, 0.6, 1), (0.5, 0.05, 2)],
    ids=["times of a quiet machine are kept", "kept while others go on", "probed again once they are gone"],
)
def test_times_taken_beside_other_programs_are_kept_until_the_machine_is_quieter(
    tmp_path, monkeypatch, others_then, busy_now, probes
):
    probe = Probe(
        model=tmp_path, dtype="float32", device="cpu", threads=1, lora=None, mean_prompt=8, mean_response=8,
        batch_size=8, allow_remote_code=False,
    )  # fmt: skip
    answers = iter([(replace(POCKET, train=1.0), others_then), (POCKET, 0.0)])
    monkeypatch.setattr(calibrate, "weights_digest", lambda folder: "digest")
    monkeypatch.setattr(calibrate, "_probed", lambda probe: next(answers))
    monkeypatch.setattr(calibrate.psutil, "cpu_percent", lambda interval: 100 * busy_now)
    found = [measure(probe, tmp_path).train for _ in range(3)]
    assert found == [1.0, *[1.0 if probes == 1 else POCKET.train] * 2]
