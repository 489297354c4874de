import contextlib

import pytest
import torch
from tests.tiny import CONFIGS, random_rows, tiny_model

from preflab.models.policies import LoraSettings, LoraStack, WholeModel
from preflab.models.recompute import recomputed
from preflab.scoring.flat import flatten
from preflab.scoring.logps import token_logps


def saved_and_gradients(policy, context):
    """Return the bytes that the graph keeps between forward and backward, and the gradients."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = flatten(random_rows(6), ("chosen", "rejected"))
    with context, policy.rows({0: batch.input_ids.numel()}):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logps = token_logps(policy.model, batch)
        logps.square().sum().backward()
    return sum(kept.values()), [p.grad.clone() for p in policy.parameters(0).values() if p.grad is not None]


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_layers_computed_again_give_the_same_gradients_and_keep_less(name, lora):
    def policy():
        model = tiny_model(name)
        return LoraStack.fresh(model, LoraSettings(2, 4.0, "all-linear"), [0]) if lora else WholeModel(model)

    plain, again = policy(), policy()
    kept, expected = saved_and_gradients(plain, contextlib.nullcontext())
    fewer, found = saved_and_gradients(again, recomputed(again.model))
    assert fewer < 0.75 * kept
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_the_layers_are_as_before_afterwards():
    model = tiny_model()
    with recomputed(model):
        assert "forward" in vars(model.model.layers[0])
    assert "forward" not in vars(model.model.layers[0])
