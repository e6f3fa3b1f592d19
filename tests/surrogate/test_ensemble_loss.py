"""CRPS estimators and the loss of an ensemble against closed forms and another library."""

import numpy as np
import pytest
import scores
import torch
import xarray as xr

from seaice_lab.diagnostics.spectra import power_spectrum
from seaice_lab.errors import InputError
from seaice_lab.surrogate.losses import (
    block_means,
    crps,
    ensemble_loss,
    ring_power,
    square_modes,
)

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def test_two_members_have_the_crps_of_the_closed_form():
    members, truth = torch.tensor([[1.0, 4.0]]).double(), torch.tensor([3.0]).double()
    # Mean distance 1.5, half the mean distance of the members 3 / 4 (standard) or 3 / 2 (fair).
    assert crps(members, truth, alpha=0).item() == pytest.approx(0.75)
    assert crps(members, truth, alpha=1).item() == pytest.approx(0.0)
    assert crps(members, truth, alpha=0.95).item() == pytest.approx(0.05 * 0.75)


@pytest.mark.parametrize(("method", "alpha"), [("fair", 1), ("ecdf", 0)])
def test_fair_and_standard_crps_are_those_of_another_library(method, alpha):
    members, truth = normal(5, 4, 3), normal(5, 3)
    theirs = scores.probability.crps_for_ensemble(
        xr.DataArray(members.numpy(), dims=("start", "member", "cell")),
        xr.DataArray(truth.numpy(), dims=("start", "cell")),
        ensemble_member_dim="member",
        method=method,
        preserve_dims="all",
    )
    np.testing.assert_allclose(crps(members, truth, alpha).numpy(), theirs.values, atol=1e-12)


def test_almost_fair_crps_sees_the_second_member_where_the_first_equals_the_truth():
    members = torch.tensor([[0.0, 0.7]], requires_grad=True)
    (fair,) = torch.autograd.grad(crps(members, torch.zeros(1), 1.0).sum(), members)
    (almost,) = torch.autograd.grad(crps(members, torch.zeros(1)).sum(), members)
    assert fair[0, 1] == 0 and almost[0, 1] > 0


def test_the_fair_score_of_any_two_members_is_on_average_that_of_the_distribution():
    members, truth = normal(200_000, 2), normal(200_000)
    # E|x - y| - E|x - x'| / 2 for three normals: 1 / sqrt(pi).
    assert crps(members, truth, 1).mean().item() == pytest.approx(np.pi**-0.5, rel=0.01)


OCEAN = torch.ones(12, 20, dtype=torch.bool)
OCEAN[:3, :9] = OCEAN[7, 5] = False


def test_block_means_add_up_to_the_mean_over_the_ocean():
    area, field = normal(12, 20).abs(), normal(2, 12, 20)
    weight = torch.where(OCEAN, area, 0)
    expected = (field * weight).sum((-2, -1))
    for mean, block_weight in block_means(field, weight):
        torch.testing.assert_close((mean * block_weight).sum((-2, -1)), expected)
    mean, block_weight = block_means(field, weight)[2]
    cells = (slice(0, 4), slice(8, 12))
    by_hand = (field[0][cells] * weight[cells]).sum() / weight[cells].sum()
    assert mean[0, 0, 2].item() == pytest.approx(by_hand.item())
    assert block_weight[0, 2].item() == pytest.approx(weight[cells].sum().item())


def test_an_error_that_is_equal_in_all_cells_is_in_one_band_alone():
    target = normal(2, 1, 12, 20)
    members = (target + 0.5)[:, None].repeat(1, 3, 1, 1, 1)
    _, terms = ensemble_loss(members, target, OCEAN, alpha=1)
    assert terms["bands"].item() == pytest.approx(0.5, rel=1e-5)
    assert terms["differences"].item() == pytest.approx(0, abs=1e-6)
    # One band alone has an error of alternating sign: that of single cells.
    checks = 0.5 * (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))
    ocean, target = torch.ones(16, 16, dtype=torch.bool), normal(1, 1, 16, 16)
    members = (target + checks)[:, None].repeat(1, 2, 1, 1, 1)
    total, terms = ensemble_loss(members, target, ocean, alpha=1)
    assert terms["bands"].item() == pytest.approx(0.5, rel=1e-5)
    # Neighbours differ by twice the error at 1 cell, and not at 2 and 4 cells.
    assert terms["differences"].item() == pytest.approx(1 / 3, rel=1e-5)
    assert total.item() == pytest.approx(0.5 + 1 / 3, rel=1e-5)


def test_land_changes_neither_the_loss_nor_its_gradient():
    members, target, area = normal(2, 3, 1, 12, 20), normal(2, 1, 12, 20), normal(12, 20).abs()
    results = []
    for land in (0.0, torch.nan, 1e9):
        x = torch.where(OCEAN, members, land).requires_grad_()
        total, _ = ensemble_loss(x, torch.where(OCEAN, target, land), OCEAN, area)
        (gradient,) = torch.autograd.grad(total, x)
        assert (gradient[..., ~OCEAN] == 0).all() and (gradient[..., OCEAN] != 0).any()
        results.append((total, gradient))
    for total, gradient in results[1:]:
        assert torch.equal(total, results[0][0]) and torch.equal(gradient, results[0][1])


def test_the_order_of_the_members_does_not_matter():
    members, target = normal(1, 4, 1, 12, 20), normal(1, 1, 12, 20)
    total, _ = ensemble_loss(members, target, OCEAN)
    swapped, _ = ensemble_loss(members[:, [2, 0, 3, 1]], target, OCEAN)
    assert total.item() == pytest.approx(swapped.item(), rel=1e-6)


def test_the_power_of_rings_is_the_power_spectrum():
    field, square = normal(1, 20, 24), (slice(0, 16), slice(8, 24))
    ocean = np.zeros((20, 24), bool)
    ocean[square] = True
    modes, rings = square_modes(field, square)
    power = ring_power(modes, rings) * rings.flatten().bincount()[1:9]
    labelled = xr.DataArray(field[0].numpy(), dims=("y", "x"))
    expected = power_spectrum(labelled, xr.DataArray(ocean, dims=("y", "x")), 1000).values
    # The two differ by the energy of the window, 3/8 squared, and the wavenumber step 1 / 16.
    np.testing.assert_allclose(power, expected * (3 / 8) ** 2 / 16, rtol=1e-4)


def test_the_spectral_term_is_zero_for_perfect_members_and_grows_with_their_error():
    target, ocean = normal(2, 1, 16, 16), torch.ones(16, 16, dtype=torch.bool)
    options = {"spectral": 0.1, "square": (slice(2, 16), slice(0, 14))}
    noise = normal(2, 2, 1, 16, 16)
    sizes = [
        ensemble_loss(target[:, None] + size * noise, target, ocean, **options)[1]["spectral"]
        for size in (0.0, 1.0, 2.0)
    ]
    assert sizes[0] == 0 and sizes[2].item() == pytest.approx(2 * sizes[1].item(), rel=1e-4)


def test_the_spectral_term_does_not_depend_on_the_size_of_the_square():
    target, members = normal(8, 1, 64, 64), normal(8, 2, 1, 64, 64)
    ocean = torch.ones(64, 64, dtype=torch.bool)
    small, large = (
        ensemble_loss(members, target, ocean, spectral=1.0, square=(slice(n), slice(n)))[1]
        for n in (24, 64)
    )
    assert small["spectral"].item() == pytest.approx(large["spectral"].item(), rel=0.1)


def test_one_member_is_refused():
    with pytest.raises(InputError, match="at least 2 members"):
        ensemble_loss(normal(2, 1, 1, 12, 20), normal(2, 1, 12, 20), OCEAN)
