"""Noise layers and noise streams: exact on land, between members, and in any batch."""

from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seaice_lab.errors import InputError
from seaice_lab.surrogate.layers import ocean_pyramid
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.noise import Noise
from seaice_lab.surrogate.wrappers import Transport

OCEAN = torch.ones(16, 24, dtype=torch.bool)
OCEAN[:5, :7] = OCEAN[9, 20] = False
NOISE = Noise([(16, 24), (8, 12), (4, 6)], 3, memory=0.5)


def networks():
    """A deterministic network of random weights, and the same one with noise layers."""
    torch.manual_seed(0)
    plain = build_network("UNet3", OCEAN, 2, width=4, out_channels=3)
    torch.nn.init.normal_(plain.head.weight)
    for name, value in plain.named_buffers():
        if "running" in name:
            value.add_(torch.rand(value.shape))
    noisy = build_network("UNet3", OCEAN, 2, width=4, out_channels=3, noise_channels=3)
    noisy.load_state_dict(noisy.state_dict() | plain.state_dict())
    wrapped = [Transport(network, [(0, 0, 2.0, 1.0)]).eval() for network in (plain, noisy)]
    return *wrapped, torch.randn(4, 2, 16, 24) * OCEAN


def randomise(network):
    for layer in network.network.noise.values():
        torch.nn.init.normal_(layer.weight, std=0.3)
    return network


def draws(noise=NOISE, seed=0, starts=(5,), members=range(4), steps=3):
    return list(islice(noise.of_members(seed, starts, members), steps))


def test_noise_layers_change_nothing_at_the_start_and_without_noise():
    plain, noisy, x = networks()
    (noise,) = draws(steps=1)
    expected = plain(x)
    assert torch.equal(noisy(x), expected) and torch.equal(noisy(x, noise), expected)
    assert torch.equal(randomise(noisy)(x), expected)
    assert not torch.allclose(noisy(x, noise), expected, atol=0.1)
    # Every level with its own noise has an influence.
    for level in range(3):
        one = [values * (i == level) for i, values in enumerate(noise)]
        assert (noisy(x, one) - expected).abs().max() > 1e-3


def test_land_stays_zero_and_noise_on_land_has_no_influence():
    _, noisy, x = networks()
    (noise,) = draws(steps=1)
    expected = randomise(noisy)(x, noise)
    assert (expected[..., ~OCEAN] == 0).all()
    masks = ocean_pyramid(OCEAN, 2)
    other = [torch.where(mask, n, torch.nan) for mask, n in zip(masks, noise, strict=True)]
    assert torch.equal(noisy(x, other), expected)


def test_members_do_not_see_each_other_in_training():
    _, noisy, x = networks()
    randomise(noisy).train()
    before = {name: value.clone() for name, value in noisy.named_buffers()}
    noise = [values.requires_grad_() for values in draws(steps=1)[0]]
    gradients = torch.autograd.grad(noisy(x, noise)[1].sum(), noise)
    for gradient in gradients:
        assert gradient[1].abs().max() > 0
        assert (gradient[[0, 2, 3]] == 0).all()
    assert all(torch.equal(value, before[name]) for name, value in noisy.named_buffers())


def test_members_that_exchange_their_noise_exchange_their_forecasts():
    _, noisy, x = networks()
    (noise,) = draws(steps=1)
    same = x[:1].repeat(4, 1, 1, 1)
    order = [2, 1, 0, 3]
    swapped = randomise(noisy)(same, [values[order] for values in noise])
    assert torch.equal(swapped, noisy(same, noise)[order])


def test_the_noise_of_a_member_depends_on_seed_start_member_and_step_alone():
    together = draws(starts=(5, 9), members=range(16))
    alone = draws(starts=(9,), members=[3])
    for many, one in zip(together, alone, strict=True):
        for values, single in zip(many, one, strict=True):
            assert torch.equal(values[16 + 3], single[0])
    for other in (draws(seed=1), draws(starts=(6,)), draws(members=range(1, 5))):
        assert not torch.equal(other[0][0], draws()[0][0])


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_noise_remembers_the_step_before_and_keeps_its_variance(memory):
    noise = Noise([(64, 64), (32, 32)], 4, memory=memory, gain=1.5)
    of_training = list(islice(noise.random(4, "cpu"), 4))
    for steps, gain in ((draws(noise, steps=4), 1.5), (of_training, 1.0)):
        fields = torch.stack([levels[0] for levels in steps]).flatten(1)
        assert fields.std(1).numpy() == pytest.approx(gain, rel=0.02)
        assert torch.corrcoef(fields)[0, 1].item() == pytest.approx(memory, abs=0.02)
        assert torch.corrcoef(fields)[0, 2].item() == pytest.approx(memory**2, abs=0.02)
    # The first step does not depend on the memory.
    assert torch.equal(draws(noise)[0][0], draws(noise._replace(memory=0.3))[0][0])


def test_intermittent_noise_has_the_same_variance_and_heavier_tails():
    shapes, s = [(128, 128), (64, 64)], 0.5
    noise = Noise(shapes, 4, memory=0.6, intermittency=s)
    of_training = list(islice(noise.random(4, "cpu"), 2))
    for steps in (draws(noise, steps=2), of_training):
        coarse = torch.stack([levels[1] for levels in steps])
        # A Gaussian times a lognormal amplitude: the kurtosis is 3 exp(4 s^2).
        assert coarse.square().mean().item() == pytest.approx(1, rel=0.05)
        kurtosis = (coarse**4).mean() / coarse.square().mean() ** 2
        assert kurtosis.item() == pytest.approx(3 * np.exp(4 * s**2), rel=0.25)
        # All channels and levels are strong in the same places, in the next step as well.
        strength = [levels[1].square().log().mean(1).flatten() for levels in steps]
        of_fine = F.avg_pool2d(steps[0][0].square().log(), 2).mean(1).flatten()
        for other in (of_fine, strength[1]):
            assert torch.corrcoef(torch.stack([strength[0], other]))[0, 1] > 0.1


def test_noise_without_intermittency_is_gaussian_and_its_stream_stays():
    source = np.random.Generator(np.random.Philox([0, 5, 2, 0]))  # seed, start, member, step
    (first, *_), size = draws()[0], 3 * 16 * 24
    expected = torch.from_numpy(source.standard_normal(size, dtype="float32"))
    assert torch.equal(first[2].flatten(), expected)
    # The amplitude is drawn last, so that the fields that it multiplies are those without it.
    ratio = draws(NOISE._replace(intermittency=0.3))[0][2] / draws()[0][2]
    assert (ratio > 0).all() and torch.allclose(ratio, ratio[:, :1].expand_as(ratio))


def test_each_level_has_its_gain():
    gains = (2.0, 0.5, 1.5)
    for before, after in zip(draws(), draws(NOISE._replace(gain=gains)), strict=True):
        for level, gain in enumerate(gains):
            assert torch.equal(after[level], gain * before[level])


@pytest.mark.parametrize(("name", "published"), [("ResNet", False), ("UNet3", True)])
def test_networks_without_noise_layers_are_refused(name, published):
    with pytest.raises(InputError, match="has no noise layers"):
        build_network(name, OCEAN, 2, published=published, noise_channels=4)
