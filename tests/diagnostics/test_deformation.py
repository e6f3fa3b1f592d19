"""Deformation rates: exact flows, coasts, other definitions, refusals."""

import numpy as np
import pytest
import xarray as xr
from scaling_fields import frames, load

from seaice_lab.diagnostics.deformation import (
    deformation_rates,
    gradient_magnitude,
    ice_mask,
    noise_floor,
    velocity_gradients,
)
from seaice_lab.diagnostics.frames import reduce_frames
from seaice_lab.errors import InputError

DX = 25e3


def drift(values):
    return frames(values, "m s-1")


def test_linear_flows_are_exact_at_all_corners_of_ocean_cells():
    data = load("linear_flow")
    mask = frames(data["mask"])
    # Values under the mask never matter, whatever they are.
    u, v = drift(data["siu"]).where(mask, 9999.0), drift(data["siv"]).where(mask)
    gradients = velocity_gradients(u, v, mask, DX)
    rates = deformation_rates(gradients)
    for result, expected in ((gradients, "gradient_per_day"), (rates, "invariants_per_day")):
        for position, name in enumerate(result):
            exact = xr.DataArray(data[expected][:, position], dims="frame")
            assert abs(result[name] - exact).max() < 1e-9
            assert (result[name].notnull().sum(("y", "x")) == data["n_valid_corners"]).all()


def test_quadrilaterals_of_any_shape_are_exact_for_linear_flow():
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:9, :11] * DX
    x, y = (frames(a + rng.uniform(-0.3, 0.3, a.shape) * DX) for a in (column, row))
    u, v = drift((2e-6 * x - 1e-6 * y).values), drift((3e-6 * x + 5e-7 * y).values)
    gradients = velocity_gradients(u, v, xr.ones_like(x, bool), DX, positions=(x, y))
    for name, value in zip(gradients, (2e-6, -1e-6, 3e-6, 5e-7), strict=True):
        np.testing.assert_allclose(gradients[name], value * 86400, rtol=1e-9)


def test_the_mean_over_corners_is_the_integral_round_the_large_box():
    u, v = (drift(np.random.default_rng(s).standard_normal((9, 9))) for s in (1, 2))
    small = velocity_gradients(u, v, xr.ones_like(u, bool), DX)
    ring = np.zeros((9, 9))
    ring[0] += u.values[0] * -1
    weight = np.ones(9)
    weight[[0, -1]] = 0.5
    du_dx = (u.values[:, -1] - u.values[:, 0]) @ weight / (8 * 8 * DX) * 86400
    np.testing.assert_allclose(float(small.du_dx.mean()), du_dx, rtol=1e-10)


def test_rates_agree_with_two_published_definitions():
    data = load("velocity_parity")
    mask = frames(data["mask"])
    u, v = drift(data["siu"]).where(mask), drift(data["siv"]).where(mask)
    total = deformation_rates(velocity_gradients(u, v, mask, 12.5e3)).total
    np.testing.assert_allclose(total, data["corner_total"], atol=1e-6)
    for name, cells in (("zero", xr.ones_like(mask)), ("nan", mask)):
        u0, v0 = (field.where(mask, 0).assign_attrs(field.attrs) for field in (u, v))
        rates = deformation_rates(velocity_gradients(u0, v0, cells, 12.5e3, "one_sided"))
        np.testing.assert_allclose(rates.total, data[f"{name}_deform_tot"][1:, 1:], atol=1e-6)
        # The rule of their figure: scalar rate, all blocks with any finite value.
        padded = rates.total.pad(y=(1, 0), x=(1, 0))
        moments = [
            [float((padded.coarsen(y=n, x=n).mean() ** q).mean()) for q in (1, 2, 3)]
            for n in 2 ** np.arange(7)
        ]
        np.testing.assert_allclose(moments, data[f"{name}_moments"], rtol=1e-5)


def test_centred_differences_do_not_see_a_checkerboard():
    board = drift((-1.0) ** np.indices((8, 8)).sum(axis=0))
    options = dict(mask=xr.ones_like(board, bool), dx_m=DX, method="centred")
    assert abs(velocity_gradients(board, board, **options)).to_array().max() == 0
    slope = drift(np.arange(8.0)[:, None] * np.ones(8))
    gradients = velocity_gradients(slope, slope, **options)
    np.testing.assert_allclose(gradients.du_dy, 86400 / DX)
    assert gradients.sizes == {"y": 6, "x": 6}


def test_turning_and_flipping_the_grid_turns_the_rates():
    u, v = (np.random.default_rng(s).standard_normal((6, 8)) for s in (1, 2))
    mask = frames(np.random.default_rng(3).random((6, 8)) > 0.1)
    rates = deformation_rates(velocity_gradients(drift(u), drift(v), mask, DX))
    # Reflection at the diagonal exchanges the axes and the components.
    turned = velocity_gradients(drift(v.T), drift(u.T), frames(mask.values.T), DX)
    turned = deformation_rates(turned)
    np.testing.assert_allclose(turned.total.values.T, rates.total)
    np.testing.assert_allclose(turned.vorticity.values.T, -rates.vorticity)


def test_lazy_rates_equal_eager_ones_in_any_order_of_dimensions():
    u = drift(np.random.default_rng(1).standard_normal((20, 6, 8)))
    mask = xr.ones_like(u, bool)
    eager = velocity_gradients(u, u, mask, DX)
    lazy = velocity_gradients(u.transpose("x", "frame", "y").chunk(frame=7), u, mask, DX)
    assert lazy.du_dx.chunks
    xr.testing.assert_equal(lazy.compute().transpose("frame", "y", "x"), eager)


def test_wrong_input_is_refused():
    u = drift(np.zeros((4, 5)))
    mask = xr.ones_like(u, bool)
    for units in (None, "km/day"):
        wrong = u.drop_attrs().assign_attrs({} if units is None else {"units": units})
        with pytest.raises(InputError, match="expected m s-1"):
            velocity_gradients(wrong, u, mask, DX)
    with pytest.raises(InputError, match="missing values inside the mask"):
        velocity_gradients(u.where(u.x > 1), u, mask, DX)
    with pytest.raises(InputError, match="conflicting dimension sizes"):
        velocity_gradients(u, u, mask.isel(x=slice(3)), DX)
    fields = [values.drop_vars(["x", "y"], errors="ignore") for values in (u, u.isel(x=slice(3)))]
    with pytest.raises(InputError, match="conflicting dimension sizes"):
        reduce_frames(lambda a, b: a, fields, None, ())
    moved = mask.assign_coords(x=np.arange(5.0) + 1)
    with pytest.raises(InputError, match="other coordinates"):
        velocity_gradients(u.assign_coords(x=np.arange(5.0)), u, moved, DX)
    with pytest.raises(InputError, match="expected some values"):
        velocity_gradients(*[u.expand_dims(time=0)] * 2, mask, DX)
    with pytest.raises(InputError, match="expected one of contour"):
        velocity_gradients(u, u, mask, DX, "spectral")


def test_the_ice_mask_combines_concentration_and_thickness():
    ocean = frames(np.array([[True, True, False, True]]))
    sic = frames(np.array([[0.9, 0.7, 0.9, 0.9]]), "1")
    sit = frames(np.array([[1.0, 1.0, 1.0, 0.2]]), "m")
    assert ice_mask(ocean, sic, sit).values.tolist() == [[True, False, False, False]]
    with pytest.raises(InputError, match="concentration"):
        ice_mask(ocean, sic.assign_attrs(units="K"))


def test_gradient_magnitude_of_a_slope_and_noise_floor():
    h = frames(np.arange(5.0) + 2 * np.arange(4.0)[:, None], "m")
    gradient = gradient_magnitude(h, xr.ones_like(h, bool), 2e3)
    np.testing.assert_allclose(gradient, 5**0.5 / 2)
    assert gradient.attrs["units"] == "m km-1"
    assert noise_floor(0.1 * 2**-11, DX) == pytest.approx(2.4e-4, rel=0.02)
