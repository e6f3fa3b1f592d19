"""Coarsening: the two rules against known answers, NaN, dask and grids that do not divide."""

import numpy as np
import pytest
import xarray as xr
from keras_weights import read

from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import block_mean, coarse_ocean


def on_grid(values):
    return xr.DataArray(values, dims=("y", "x"))


@pytest.mark.parametrize("factor", [2, 4])
def test_coarsening_by_the_published_rule_gives_the_published_numbers(factor):
    data = read("masks")
    ocean = data["B/level0"] > 0.5
    field = data[f"B/field_x{factor}"].astype("float64")
    land_as_zero = on_grid(field).where(on_grid(ocean), 0)
    coarse = block_mean(land_as_zero, factor)
    np.testing.assert_allclose(coarse, data[f"B/field_blockmean_x{factor}"], rtol=1e-6, atol=1e-7)
    land = data[f"B/land_blockmin_x{factor}"].astype(bool)
    np.testing.assert_array_equal(coarse_ocean(on_grid(ocean), factor), ~land)


@pytest.mark.parametrize("chunks", [None, {"y": 1, "x": 2}])
def test_our_coarsening_averages_the_ocean_children_whatever_the_land_holds(chunks):
    field = on_grid(np.array([[1.0, 3.0, np.nan, 99.0], [5.0, np.nan, np.nan, 7.0]]))
    ocean = on_grid(np.array([[True, True, False, False], [True, False, False, True]]))
    field = field if chunks is None else field.chunk(chunks)
    coarse = block_mean(field, 2, ocean)
    assert (coarse.chunks is None) == (chunks is None)
    np.testing.assert_allclose(coarse, [[3.0, 7.0]])
    none = xr.zeros_like(ocean)
    assert np.isnan(block_mean(field, 2, none)).all()


def test_nan_in_the_ocean_stays_nan_when_cells_are_merged():
    field = on_grid(np.array([[1.0, np.nan, 2.0, 4.0], [5.0, 3.0, 6.0, 8.0]]))
    ocean = on_grid(np.ones((2, 4), bool))
    np.testing.assert_array_equal(block_mean(field, 2, ocean), [[np.nan, 5.0]])
    np.testing.assert_array_equal(block_mean(field, 2), [[np.nan, 5.0]])


def test_a_grid_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="6 x 7 cells cannot be coarsened by 2; crop"):
        block_mean(on_grid(np.ones((6, 7))), 2)
