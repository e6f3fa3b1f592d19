"""Anisotropy: fields with a known index and direction, noise, lines."""

import numpy as np
import pytest
import xarray as xr
from scaling_fields import everywhere, frames, load

from seaice_lab.diagnostics.anisotropy import (
    angular_index,
    angular_sums,
    isotropic_index,
    neighbourhood_anisotropy,
    structure_tensor,
)


@pytest.fixture(scope="module")
def field():
    return frames(load("anisotropic")["h"].astype(float))


def test_an_elliptic_field_has_the_index_and_direction_of_the_parity_set(field):
    result = angular_index(angular_sums(field, everywhere(field)))
    np.testing.assert_allclose(result["index"], 0.598, atol=1e-3)
    np.testing.assert_allclose(result.orientation, 31.5, atol=0.1)
    assert 15 < result.sector_power.idxmax() < 45 and result.power_ratio > 8
    assert result.sizes["ring"] == 30 and (result.index_by_scale > 0.3).all()


def test_turning_a_field_turns_its_direction(field):
    turned = frames(np.rot90(field.values, 1, axes=(1, 2)).copy())
    for function in (lambda f: angular_index(angular_sums(f, everywhere(f))),
                     lambda f: structure_tensor(f, everywhere(f)).isel(frame=0)):  # fmt: skip
        before, after = function(field).orientation, function(turned).orientation
        # rot90 turns rows downwards: against the sense in which y grows.
        assert abs((before - after) % 180 - 90) < 0.5


def test_isotropic_noise_has_a_small_index():
    null = isotropic_index(54)
    assert 0.07 < null.mean() < 0.13 and null.std() < 0.08
    assert isotropic_index(128, 2, draws=20).mean() < 0.06


def test_the_structure_tensor_finds_direction_and_coherence_and_skips_the_coast(field):
    mask = everywhere(field)
    tensor = structure_tensor(field, mask).isel(frame=0)
    np.testing.assert_allclose([tensor.coherence, tensor.orientation], [0.637, 31.6], atol=0.05)
    mask = mask.where(mask.x < 64, False)
    land = structure_tensor(field.where(mask, 9999.0), mask, sigma_cells=6)
    assert (land.isel(x=slice(59, None)).coherence.isnull()).all()
    xr.testing.assert_allclose(land, structure_tensor(field.where(mask), mask, sigma_cells=6))
    assert 20 < land.orientation.isel(x=slice(59)).median() < 40


def test_a_line_of_strong_deformation_is_completely_anisotropic():
    rate = np.full((30, 30), 0.01)
    rate[range(30), range(30)] = 0.5
    line = neighbourhood_anisotropy(frames(rate))
    np.testing.assert_allclose(line.values[range(5, 25), range(5, 25)], 1, atol=1e-9)
    assert line.notnull().sum() == 30
    block = neighbourhood_anisotropy(frames(np.full((30, 30), 0.5)))
    assert block[15, 15] < 1e-9
