"""The way of a GPU: batches in groups, one by one the same, and a sentence where memory lacks.

Without a GPU the steps are the same, but no graph is captured.
"""

import numpy as np
import pytest
import torch
from published import build, observations, run_steps, weights

from seaice_lab.emissivity import gpu_adam
from seaice_lab.errors import InputError


def test_groups_hold_whole_batches_in_their_order_and_the_short_one_alone():
    order = torch.randperm(10 * 20 + 7)
    firsts = [*range(20, 200, 10), 200, 0, 10]  # 21 batches, the short one in the third group
    groups = [one for (one,) in gpu_adam.grouped(order, firsts, 10)]
    assert [len(one) for one in groups] == [80, 80, 10, 10, 7, 10, 10]
    expected = torch.cat([order[first : first + 10] for first in firsts])
    assert torch.equal(torch.cat(groups), expected)


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers"])
def test_steps_taken_together_are_those_taken_one_by_one(case, tmp_path):
    seen = observations(case, tmp_path)
    assert seen.size >= 2 * gpu_adam.TOGETHER * 128
    one, several = (build(case, seen, "init", replayed=False) for _ in range(2))
    terms = list(run_steps(one, seen, 2 * gpu_adam.TOGETHER, resident=True, size=128))
    groups = list(run_steps(several, seen, 2, resident=True, size=128, together=gpu_adam.TOGETHER))
    for number, mean in enumerate(groups):
        part = terms[number * gpu_adam.TOGETHER :][: gpu_adam.TOGETHER]
        for name, value in mean.items():
            assert value == pytest.approx(np.mean([term[name] for term in part]), rel=1e-5)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(several)[name], value, rtol=0, atol=1e-6)


def test_what_does_not_fit_into_the_memory_of_a_gpu_is_refused(tmp_path, monkeypatch):
    seen = observations("v2_imagers", tmp_path)
    model = build("v2_imagers", seen, replayed=False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1e5, 16e9))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1e9)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9e9)
    gpu_adam.check_memory(torch.device("cuda"), seen, model)  # kept from an earlier training
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1e9)
    with pytest.raises(InputError, match="the GPU has 0.00 GB free; train fewer days"):
        gpu_adam.check_memory(torch.device("cuda"), seen, model)
