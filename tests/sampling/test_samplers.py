"""The seam to vLLM, against a stand-in with the parts of its API that are used."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from preflab.core.errors import ConfigError
from preflab.sampling.samplers import vllm_sampler


class LLM:
    def __init__(self, **settings):
        self.settings = settings
        self.asked = []
        LLM.last = self

    def generate(self, prompts, sampling_params, use_tqdm):
        self.asked.append((prompts, sampling_params))
        found = [([7, 8, 2], "stop"), ([7, 8], "stop"), ([7, 8, 9], "length")]
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=why)])
            for _, (ids, why) in zip(prompts, found, strict=False)
        ]


@pytest.fixture
def stand_in(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_vllm_samples_the_models_own_distribution_with_a_stream_per_key(stand_in, tmp_path):
    sample = vllm_sampler(tmp_path, end_ids=[2, 3], seed=0)
    prompts = [np.array([4, 5]), np.array([6]), np.array([6])]
    found = sample(prompts, ["a", "b", "a"], 3)
    assert [(r.tokens.tolist(), r.truncated) for r in found] == [
        ([7, 8, 2], False),
        ([7, 8, 2], False),  # the end token that it left out
        ([7, 8, 9], True),
    ]
    ((asked, params),) = LLM.last.asked
    assert [each["prompt_token_ids"] for each in asked] == [[4, 5], [6], [6]]
    assert params[0].seed == params[2].seed != params[1].seed
    assert (params[0].temperature, params[0].top_p, params[0].top_k, params[0].max_tokens) == (1.0, 1.0, 0, 3)
    assert params[0].stop_token_ids == [2, 3]
    sample(prompts, ["a", "b", "a"], 3, 0.1)
    assert [each.temperature for each in LLM.last.asked[-1][1]] == [0.1] * 3
    assert LLM.last.settings["model"] == str(tmp_path) and LLM.last.settings["generation_config"] == "vllm"


def test_without_vllm_the_way_out_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"pip install 'preflab\[vllm\]'"):
        vllm_sampler(tmp_path, end_ids=[2], seed=0)
