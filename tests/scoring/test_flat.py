import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import CONFIGS, random_rows, tiny_model
from transformers import AutoModelForCausalLM, BloomConfig, GPTJConfig, MambaConfig, MixtralConfig

from preflab.core.errors import RunError
from preflab.data.examples import TokenRow
from preflab.methods import TokenLogps
from preflab.models.load import load_model
from preflab.scoring.flat import fill, flatten, n_tokens
from preflab.scoring.head import _softmax
from preflab.scoring.logps import prove, score, separate_logps, shares_prompts, token_logps

ROLES = ("chosen", "rejected", "mismatched")


@pytest.mark.parametrize("name", CONFIGS)
def test_flat_rows_give_the_log_probs_of_separate_rows(name):
    model = tiny_model(name)
    rows = random_rows(5, roles=ROLES)
    batch = flatten(rows, ROLES)
    with torch.no_grad():
        flat = token_logps(model, batch)
    separate = torch.cat(
        [separate_logps(model, rows[k.row].prompt, rows[k.row].responses[k.role]) for k in batch.responses]
    )
    # Gemma 2's eager attention takes its softmax in float32 whatever the dtype.
    tolerance = 1e-5 if name == "gemma2_softcap" else 1e-11
    torch.testing.assert_close(flat, separate, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", CONFIGS)
def test_flat_rows_give_the_gradients_of_separate_rows(name):
    rows = random_rows(4)
    weights = torch.linspace(-1, 2, 8, dtype=torch.float64)
    model = tiny_model(name)
    batch = flatten(rows, ("chosen", "rejected"))
    (TokenLogps(token_logps(model, batch), batch.length.double()).sums() * weights).sum().backward()
    flat = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for weight, key in zip(weights, batch.responses, strict=True):
        prompt, response = rows[key.row].prompt, rows[key.row].responses[key.role]
        ids = torch.from_numpy(np.concatenate([prompt, response]))
        logits = model(input_ids=ids[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
        (weight * logits.log_softmax(-1).gather(-1, ids[len(prompt) :, None]).sum()).backward()
    tolerance = 1e-4 if name == "gemma2_softcap" else 1e-10
    for n, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(flat[n], p.grad, atol=tolerance, rtol=tolerance)


def test_a_response_does_not_see_the_other_response():
    model = tiny_model()
    rows = random_rows(2)
    changed = [
        type(r)(r.row, r.prompt, {**r.responses, "chosen": r.responses["chosen"][::-1].copy() + 0}) for r in rows
    ]
    before = score(model, rows, ("chosen", "rejected"), budget=1000)["rejected"]
    after = score(model, changed, ("chosen", "rejected"), budget=1000)["rejected"]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_chunks_with_recompute_give_the_same_gradients(monkeypatch):
    rows = random_rows(4)
    grads = []
    for floats, kept in ((2**26, 2**26), (61 * 3, 2**26), (61 * 3, 0)):
        monkeypatch.setattr("preflab.scoring.head._CHUNK_FLOATS", {"cpu": floats})
        monkeypatch.setattr("preflab.scoring.head._KEPT_FLOATS", kept)
        model = tiny_model()
        batch = flatten(rows, ("chosen", "rejected"))
        token_logps(model, batch).square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for others in grads[1:]:
        torch.testing.assert_close(others, grads[0], atol=1e-12, rtol=1e-10)


def test_linear_layers_see_every_token_once():
    rows = random_rows(6, roles=ROLES)
    batch = flatten(rows, ROLES)
    assert batch.n_tokens == sum(len(r.prompt) + sum(map(len, r.responses.values())) for r in rows)
    assert len(batch.target_C) == sum(len(x) for r in rows for x in r.responses.values())


def test_unpaired_rows_contribute_the_side_they_have():
    rows = random_rows(2)
    rows[0] = type(rows[0])(1, rows[0].prompt, {"chosen": rows[0].responses["chosen"]})
    rows[1] = type(rows[1])(2, rows[1].prompt, {"rejected": rows[1].responses["rejected"]})
    assert [tuple(k) for k in flatten(rows, ("chosen", "rejected")).responses] == [(0, "chosen"), (1, "rejected")]


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 20), budget=st.integers(1, 200), seed=st.integers(0, 99))
def test_micro_batches_hold_every_row_once_within_the_budget(n, budget, seed):
    rows = random_rows(n, seed=seed)
    groups = fill(rows, ("chosen", "rejected"), budget)
    assert sorted(i for g in groups for i in g) == list(range(n))
    for group in groups:
        sizes = [n_tokens(rows[i], ("chosen", "rejected")) for i in group]
        assert len(group) == 1 or (sum(sizes) <= budget and len(sizes) * max(sizes) <= 2 * budget)


@pytest.mark.parametrize("name", CONFIGS)
def test_supported_architectures_share_prompts(name):
    model = tiny_model(name, dtype=torch.float32)
    prove(model)
    assert shares_prompts(model)


SEPARATE = {
    "recurrent": MambaConfig(vocab_size=61, hidden_size=16, num_hidden_layers=2, state_size=4),
    "biases by distance": BloomConfig(vocab_size=61, hidden_size=16, n_layer=2, n_head=2),
    "attention of its own": GPTJConfig(vocab_size=61, n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_positions=64),
}


@pytest.mark.parametrize("name", SEPARATE)
def test_what_cannot_share_prompts_runs_on_rows_of_its_own(name):
    model = AutoModelForCausalLM.from_config(SEPARATE[name]).eval()
    prove(model)
    assert not shares_prompts(model)
    rows = random_rows(5, roles=ROLES)
    batch = flatten(rows, ROLES)
    own = [separate_logps(model, rows[k.row].prompt, rows[k.row].responses[k.role]) for k in batch.responses]
    torch.testing.assert_close(token_logps(model, batch), torch.cat(own), atol=1e-4, rtol=1e-4)


def test_both_layouts_give_the_same_gradients():
    rows = [*random_rows(4)[1:], TokenRow(9, np.array([3, 4]), {"rejected": np.array([5, 6, 7])})]
    gradients = []
    for shares in (True, False):
        model = tiny_model()
        model.get_decoder().shares_prompts = shares
        batch = flatten(rows, ("chosen", "rejected"))
        (
            TokenLogps(token_logps(model, batch), batch.length.double()).sums()
            * torch.linspace(-1, 2, 7, dtype=torch.float64)
        ).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for shared, separate in zip(*gradients, strict=True):
        torch.testing.assert_close(shared, separate, atol=1e-10, rtol=1e-10)


def test_a_head_that_is_not_understood_is_refused(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr("preflab.scoring.head._softmax", lambda h, w, t: _softmax(2 * h, w, t))
    with pytest.raises(RunError, match="log-probs differ from the model's own"):
        prove(model)


def test_mixture_of_experts_is_refused(tmp_path):
    MixtralConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    ).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="mixture-of-experts"):
        load_model(tmp_path, dtype="float32", device="cpu")


def test_log_softmax_is_float32_for_bfloat16_models():
    model = tiny_model(dtype=torch.bfloat16)
    with torch.no_grad():
        assert token_logps(model, flatten(random_rows(1), ("chosen",))).dtype == torch.float32
