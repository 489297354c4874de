"""The kernel for GPUs, with a stand-in that does what its documentation says; with the kernel itself where it is."""

import functools

import pytest
import torch
from tests.tiny import CONFIGS, random_rows, tiny_model

from preflab.scoring import attention, varlen
from preflab.scoring.flat import flatten
from preflab.scoring.logps import token_logps

ROLES = ("chosen", "rejected", "mismatched")


def stand_in(q, k, v, query_ends, key_ends, most_q, most_k, *, scale, window_size, enable_gqa, aligned="bottom right"):
    """Attend segment by segment as `torch.nn.attention.varlen.varlen_attn` documents it."""
    assert query_ends.dtype == key_ends.dtype == torch.int32 and enable_gqa == (q.shape[1] != k.shape[1])
    out = []
    for (a, b), (c, d) in zip(query_ends.unfold(0, 2, 1).tolist(), key_ends.unfold(0, 2, 1).tolist(), strict=True):
        assert b - a <= most_q and d - c <= most_k
        last = torch.arange(b - a)[:, None] + (d - c - (b - a) if aligned == "bottom right" else 0)
        behind = last - torch.arange(d - c)[None]
        left = window_size[0] if window_size[0] >= 0 else d
        sees = (behind >= -window_size[1]) & (behind <= left)
        qs, ks, vs = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        part = torch.nn.functional.scaled_dot_product_attention(
            qs, ks, vs, attn_mask=sees, scale=scale, enable_gqa=enable_gqa
        )
        out.append(part[0].transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"gemma2_softcap"}))
def test_segments_of_unequal_length_give_what_padded_blocks_give(name, monkeypatch):
    model, batch = tiny_model(name), flatten(random_rows(5, roles=ROLES), ROLES)

    def run():
        model.zero_grad()
        found = token_logps(model, batch)
        found.square().sum().backward()
        return found.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    expected, slopes = run()
    calls = []
    monkeypatch.setattr(attention, "takes_varlen", lambda query, key: calls.append(0) or True)
    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    found, others = run()
    assert len(calls) == model.config.num_hidden_layers
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-11)
    for parameter, slope in slopes.items():
        torch.testing.assert_close(others[parameter], slope, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("kernel", "expected"), [(stand_in, True), (functools.partial(stand_in, aligned="top left"), False)]
)
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_a_kernel_that_aligns_otherwise_is_not_used(kernel, expected, heads, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    assert varlen._aligns.__wrapped__(torch.device("cpu"), torch.float32, *heads) is expected


def test_a_kernel_that_does_not_run_is_not_used():
    assert not varlen._aligns.__wrapped__(torch.device("cpu"), torch.bfloat16, 2, 2)
    assert not varlen.takes_varlen(torch.zeros(1, 2, 3, 16), torch.zeros(1, 2, 3, 16))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_the_kernel_itself_aligns_to_the_last_key(heads):
    assert varlen._aligns(torch.device("cuda"), torch.bfloat16, *heads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["llama", "mistral_sliding_window"])
def test_the_kernel_itself_gives_what_padded_blocks_give(name, monkeypatch):
    model = tiny_model(name, dtype=torch.bfloat16).cuda()
    batch = flatten(random_rows(5, roles=ROLES), ROLES, torch.device("cuda"))
    with torch.no_grad():
        found = token_logps(model, batch)
        monkeypatch.setattr(attention, "takes_varlen", lambda query, key: False)
        expected = token_logps(model, batch)
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)
