"""Adam on a GPU: groups of batches give the same steps, and too little memory is refused.

Without a GPU the steps are the same, but no graph is captured.
"""

import numpy as np
import pytest
import torch
from published import build, observations, run_steps, weights

from seaice_lab.compute import Process
from seaice_lab.config import FitConfig
from seaice_lab.emissivity.gpu_adam import STEPS_PER_GRAPH, GpuAdam, check_memory, free_memory
from seaice_lab.emissivity.lazy_adam import LazyAdam
from seaice_lab.errors import InputError
from seaice_lab.training import TrainState


def test_groups_hold_whole_batches_in_their_order_and_the_short_one_alone(tmp_path):
    seen = observations("v1_linear", tmp_path)
    optimiser = GpuAdam(build("v1_linear", seen), seen, FitConfig(batch_size=10))
    order = torch.randperm(10 * 20 + 7)
    firsts = [*range(20, 200, 10), 200, 0, 10]  # 21 batches, the short one in the third group
    groups = [positions for (positions,) in optimiser.batches(order.numpy(), firsts)]
    assert [len(positions) for positions in groups] == [80, 80, 10, 10, 7, 10, 10]
    expected = torch.cat([order[first : first + 10] for first in firsts])
    assert torch.equal(torch.cat(groups), expected)


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers"])
def test_grouped_steps_are_those_taken_one_by_one(case, tmp_path):
    seen = observations(case, tmp_path)
    assert seen.size >= 2 * STEPS_PER_GRAPH * 128
    single, grouped = (build(case, seen, "init") for _ in range(2))
    terms = list(run_steps(single, seen, 2 * STEPS_PER_GRAPH, "gpu", size=128))
    means = list(run_steps(grouped, seen, 2 * STEPS_PER_GRAPH, "gpu", size=128, grouped=True))
    assert len(means) == 2
    for number, mean in enumerate(means):
        group = terms[number * STEPS_PER_GRAPH :][:STEPS_PER_GRAPH]
        for name, value in mean.items():
            assert value == pytest.approx(np.mean([term[name] for term in group]), rel=1e-5)
    for name, value in weights(single).items():
        torch.testing.assert_close(weights(grouped)[name], value, rtol=0, atol=1e-6)


def test_what_does_not_fit_into_the_memory_of_a_gpu_is_refused(tmp_path, monkeypatch):
    seen = observations("v2_imagers", tmp_path)
    model = build("v2_imagers", seen)
    check_memory(free_memory(torch.device("cpu")), seen, model)
    with pytest.raises(InputError, match="the GPU has 0.00 GB free; train fewer days"):
        check_memory(1e5, seen, model)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1e5, 16e9))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1e9)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9e9)
    # torch has kept 8 GB from an earlier training
    assert free_memory(torch.device("cuda")) == 8e9 + 1e5


@pytest.mark.parametrize("optimisers", [(LazyAdam, GpuAdam), (GpuAdam, LazyAdam)])
def test_a_training_does_not_continue_with_another_optimiser(optimisers, tmp_path):
    seen, process = observations("v1_linear", tmp_path), Process()
    process.device = torch.device("cpu")
    states = []
    for optimiser_class in optimisers:
        model = build("v1_linear", seen)
        optimiser = optimiser_class(model, seen, FitConfig())
        states.append(TrainState(model, FitConfig(), process, 1, optimiser))
    states[0].save(tmp_path, better=True)
    states[0].resume(tmp_path)
    with pytest.raises(InputError, match="does not fit this training"):
        states[1].resume(tmp_path)
