"""The observation operator: positions, times, means over a period, thickness per area of ice."""

import numpy as np
import pytest
import torch
import xarray as xr
from small_tables import DAY, NOON, table_of
from small_windows import OCEAN, THICKNESS_AND_CONCENTRATION, surrogate_model

from seaice_lab import grid
from seaice_lab.assimilation import interpolation
from seaice_lab.assimilation.background import diagonal
from seaice_lab.assimilation.checks import dot_product_error
from seaice_lab.assimilation.cost import cost, problem_of
from seaice_lab.assimilation.interpolation import cell_weights, step_weights
from seaice_lab.assimilation.model import Source, adjoint, states, tangent
from seaice_lab.assimilation.observation_operator import window_observations
from seaice_lab.assimilation.observations import concatenate, counts
from seaice_lab.errors import InputError

SPACING_M = 25e3
HOUR = np.timedelta64(1, "h")


def store_of(turned=False):
    """A grid of 8 x 8 cells beside the pole; turned: its columns and rows are interchanged."""
    x, y = np.meshgrid((np.arange(8) - 20) * SPACING_M, (np.arange(8) - 3) * SPACING_M)
    fields = [*grid.unproject(x, y), OCEAN.numpy()]
    fields = [field.T if turned else field for field in fields]
    return xr.Dataset({}, grid.geographic_coordinates(*fields))


def at(row, column):
    """Latitude and longitude of a point by its row and column."""
    return grid.unproject((np.asarray(column) - 20) * SPACING_M, (np.asarray(row) - 3) * SPACING_M)


def points(row, column, **columns):
    latitude, longitude = at(row, column)
    return table_of(np.size(row), latitude=latitude, longitude=longitude, **columns)


def opened(window=THICKNESS_AND_CONCENTRATION, **options):
    surrogate, model, initial = surrogate_model(window, steps=6, **options)
    return Source(surrogate, store_of(), None), model, initial


@pytest.mark.parametrize("turned", [False, True])
def test_a_linear_field_is_observed_exactly_between_cells(turned):
    row, column = np.array([3.3, 4.0, 6.75, 7.2]), np.array([4.8, 2.0, 1.5, 7.3])
    store = store_of(turned)
    rows, columns = np.indices((8, 8))
    field = 2.0 * rows + 3.0 * columns
    cells, weights, reason = cell_weights(*at(row, column), store)
    observed = ((field.T if turned else field).ravel()[cells] * weights).sum(1)
    # Beyond the last centres the field is that of the edge.
    expected = 2 * row.clip(max=7) + 3 * column.clip(max=7)
    np.testing.assert_allclose(observed, expected, rtol=1e-6)
    assert (reason == "used").all()


def skewed(skew, ocean):
    rows, columns = np.indices((8, 8))
    fields = [*at(rows, columns + skew * rows), ocean]
    return xr.Dataset({}, grid.geographic_coordinates(*fields))


def test_no_point_within_a_skewed_grid_is_outside():
    rows, columns = np.indices((8, 8))
    store = skewed(0.8, np.ones((8, 8), bool))
    row, column = np.random.default_rng(0).uniform(1, 6, (2, 200))
    cells, weights, reason = cell_weights(*at(row, column + 0.8 * row), store)
    assert (reason == "used").all()
    observed = ((2.0 * rows + 3.0 * columns).ravel()[cells] * weights).sum(1)
    np.testing.assert_allclose(observed, 2 * row + 3 * column, rtol=1e-6)


def test_the_nearest_cell_has_all_weight_where_the_others_of_a_skewed_grid_are_land():
    ocean = np.zeros((8, 8), bool)
    ocean[4, 4] = True
    # Along the rows of the grid, the point is 0.45 + 1.4 x 0.4 = 1.01 cells from the nearest one.
    cells, weights, reason = cell_weights(*at([4.4], [4.0 + 1.4 * 4 - 0.45]), skewed(1.4, ocean))
    assert reason == "used" and weights[0][cells[0] == 4 * 8 + 4].sum() == 1


def test_land_has_no_weight_and_points_on_land_or_outside_are_told_apart():
    # Cells (5, 4) to (5, 7) and (0, 0) to (1, 2) are land.
    cells, weights, reason = cell_weights(
        *at([4.4, 5.1, 9.0, 3.0], [5.0, 5.0, 5.0, -1.0]), store_of()
    )
    assert reason.tolist() == ["used", "on_land", "outside_grid", "outside_grid"]
    assert weights[0][cells[0] == 4 * 8 + 5].sum() == pytest.approx(1)
    assert cell_weights(np.array([-75.0]), np.array([0.0]), store_of())[2] == "outside_grid"


def wide_store():
    x, y = np.meshgrid((np.arange(41) - 20) * SPACING_M, (np.arange(41) - 20) * SPACING_M)
    ocean = np.ones(x.shape, bool)
    ocean[:, :12] = False
    return xr.Dataset({}, grid.geographic_coordinates(*grid.unproject(x, y), ocean))


def test_a_smooth_map_observes_what_its_filter_keeps_of_a_wave():
    store, std = wide_store(), 60e3
    x = SPACING_M * np.broadcast_to(np.arange(41) - 20, (41, 41)).ravel()
    latitude, longitude = (
        store[name].values[20, [20, 20, 12]] for name in ("latitude", "longitude")
    )
    cells, weights, reason = cell_weights(latitude, longitude, store, np.array([std, np.nan, std]))
    assert (reason == "used").all()
    np.testing.assert_allclose(weights.sum(1), 1)
    for wavelength in (300e3, 600e3):
        smooth, sharp, _ = (np.cos(2 * np.pi * x / wavelength)[cells] * weights).sum(1)
        # A Gaussian filter keeps exp(-k^2 s^2 / 2) of the amplitude of a wave.
        assert smooth == pytest.approx(np.exp(-2 * (np.pi * std / wavelength) ** 2), abs=0.02)
        assert sharp == pytest.approx(1)
    # At a coast the filter has only the cells of the sea.
    assert (weights[2][x[cells[2]] < -8 * SPACING_M] == 0).all()


def test_a_filter_narrower_than_half_a_cell_changes_nothing():
    place = at([3.3], [4.8])
    plain = cell_weights(*place, store_of())
    narrow = cell_weights(*place, store_of(), np.array([100.0]))
    for one, other in zip(plain, narrow, strict=True):
        np.testing.assert_array_equal(one, other)


def test_times_between_steps_are_linear_and_means_are_exact():
    times = NOON + 12 * HOUR * np.arange(5)
    table = table_of(
        3,
        time=NOON + 30 * HOUR,
        time_start=NOON + np.array([30, 6, 0]) * HOUR,
        time_end=NOON + np.array([30, 45, 48]) * HOUR,
    )
    weights = step_weights(table, times)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights[0], [0, 0, 0.5, 0.5, 0])
    np.testing.assert_allclose(weights[2], np.array([0.5, 1, 1, 1, 0.5]) / 4)
    # The mean of a piecewise linear series, by fine summation.
    series = np.array([0.3, 2.0, -1.0, 4.0, 1.0])
    fine = np.interp(np.linspace(6, 45, 200_001), 12 * np.arange(5), series).mean()
    assert weights[1] @ series == pytest.approx(fine, rel=1e-4)


def test_thickness_per_area_of_ice_is_a_quotient_of_means_with_an_exact_adjoint():
    source, model, initial = opened(batch=2)
    period = {"time_start": NOON, "time_end": NOON + 2 * DAY, "time": NOON + DAY}
    first = concatenate(
        [
            points([3.3, 4.2], [4.8, 2.0], kind="sit_of_ice", **period),
            points([6.0], [2.0], kind="sic", time=NOON + 12 * HOUR),
        ]
    )
    second = points([3.0, 9.0], [4.0, 4.0], kind="sit", time=NOON + 6 * HOUR)
    observed, tables = window_observations(source, model, [first, second], [NOON, NOON])
    assert counts(tables[1]) == {"used": 1, "outside_grid": 1}
    assert torch.isinf(observed.sigma).tolist() == [[False] * 3, [False, True, True]]
    fields = states(model, initial, range(7)).double()
    equivalents = observed.operator(fields[:, list(observed.steps)])
    weights = torch.tensor([0.5, 1, 1, 1, 0.5]).double() / 4
    cells, in_space, _ = cell_weights(*at([3.3], [4.8]), source.store)
    means = (fields[0, :5].flatten(2)[..., cells[0]] @ torch.from_numpy(in_space[0])).T @ weights
    # The table is in the order of time: the concentration at 12 h comes first.
    torch.testing.assert_close(equivalents[0, 1], means[0] / means[1])
    torch.testing.assert_close(equivalents[0, 0], fields[0, 1, 1, 6, 2])
    torch.testing.assert_close(equivalents[1, 0], fields[1, :2, 0, 3, 4].mean())
    window_fields = fields[:, list(observed.steps)]
    error = dot_product_error(
        lambda x: tangent(observed.operator, window_fields, torch.from_numpy(x)).numpy(),
        lambda w: adjoint(observed.operator, window_fields, torch.from_numpy(w)).numpy(),
        np.random.default_rng(0).standard_normal(window_fields.shape),
    )
    assert error < 1e-12


def test_only_the_observations_of_smooth_maps_are_compared_with_smoothed_states():
    source, model, initial = opened(batch=2)
    moment, std = {"kind": "sit", "time": NOON + 12 * HOUR}, np.array([40e3])
    both = points([3.3, 3.0], [4.8, 4.0], smoothing=[*std, np.nan], **moment)
    tables = [both, points([3.0], [4.0], **moment)]
    observed, _ = window_observations(source, model, tables, [NOON, NOON])
    fields = states(model, initial, range(7)).double()
    smooth, plain = observed.operator(fields[:, list(observed.steps)])
    thickness = fields[:, 1, 0]
    cells, weights, _ = cell_weights(*at([3.3], [4.8]), source.store, std)
    expected = torch.from_numpy(weights[0]) @ thickness[0].flatten()[cells[0]]
    torch.testing.assert_close(smooth, torch.stack([expected, thickness[0, 3, 4]]))
    torch.testing.assert_close(plain[0], thickness[1, 3, 4])


def test_weekly_smooth_maps_are_dense_weighted_sums_of_cells_with_an_exact_adjoint():
    source, model, initial = opened(batch=2)
    row, column = np.array([3.3, 4.2, 6.0, 3.3]), np.array([4.8, 2.0, 2.5, 4.8])
    std, start = np.array([40e3, 60e3, np.nan, 40e3]), NOON + np.array([0, 0, 0, 1]) * DAY
    period = {"time_start": start, "time_end": start + 2 * DAY, "time": start + DAY}
    maps = points(row, column, smoothing=std, kind=["sit", "sit_of_ice", "sit", "sit"], **period)
    late = points(row[1:2], column[1:2], smoothing=60e3, kind="sic", time=NOON + 30 * HOUR)
    observed, tables = window_observations(source, model, [maps, late], [NOON, NOON])
    fields = torch.rand(2, len(observed.steps), initial.shape[1], 8, 8).double()
    assert observed.steps == (0, 1, 2, 3, 4, 5, 6)
    times = NOON + 12 * HOUR * np.arange(7)
    expected = np.zeros(observed.values.shape)
    for window, table in enumerate(tables):
        place = table.latitude.values, table.longitude.values
        cells, in_space, _ = cell_weights(*place, source.store, table.smoothing.values)
        weights = step_weights(table, times)[:, :, None] * in_space[:, None]
        sit, sic = fields[window, :, :2].flatten(2).numpy().swapaxes(0, 1)
        sit, sic = (np.einsum("otc,toc->o", weights, field[:, cells]) for field in (sit, sic))
        values = {"sit": sit, "sic": sic, "sit_of_ice": sit / sic}
        for number, kind in enumerate(table.kind.values):
            expected[window, number] = values[kind][number]
    np.testing.assert_allclose(observed.operator(fields).numpy(), expected, rtol=1e-10)
    error = dot_product_error(
        lambda x: tangent(observed.operator, fields, torch.from_numpy(x)).numpy(),
        lambda w: adjoint(observed.operator, fields, torch.from_numpy(w)).numpy(),
        np.random.default_rng(0).standard_normal(fields.shape),
    )
    assert error < 1e-12


def test_a_matrix_made_in_parts_has_the_weights_of_all_cells_above_zero(monkeypatch):
    store, latitude, longitude = wide_store(), *at([3.3, 4.0, 5.0], [14.8, 25.0, 15.5])
    smoothing_m = np.array([60e3, np.nan, 40e3])
    cells, weights, _ = cell_weights(latitude, longitude, store, smoothing_m)
    monkeypatch.setattr(interpolation, "AT_ONCE", 1)
    make, trees = interpolation.cKDTree, []
    monkeypatch.setattr(interpolation, "cKDTree", lambda x: trees.append(make(x)) or trees[-1])
    matrix = interpolation.cell_matrix(latitude, longitude, store, smoothing_m)
    assert len(trees) == 1
    expected = np.zeros(matrix.shape)
    np.add.at(expected, (np.arange(3)[:, None], cells), weights)
    np.testing.assert_allclose(matrix.toarray(), expected, atol=1e-14)
    assert matrix.nnz == (expected > 0).sum()
    # The filter of an observation does not depend on the others.
    alone = cell_weights(latitude[2:], longitude[2:], store, smoothing_m[2:])
    np.testing.assert_allclose(alone[1][0], weights[2][: alone[1].shape[1]])


def test_a_state_without_concentration_needs_the_concentration_of_the_observation():
    window = opened("past_state")[:2]
    table = points([3.0, 4.0], [4.0, 4.0], kind="sit_of_ice", value=2.0, concentration=[0.5, 0.05])
    observed, (table,) = window_observations(*window, [table], [NOON - HOUR])
    assert observed.values.tolist() == [[1.0]] and observed.sigma.tolist() == [[0.05]]
    assert table.kind.values[0] == "sit" and counts(table) == {"used": 1, "outside_range": 1}
    with pytest.raises(InputError, match="2 of 2 are thickness per area of ice"):
        window_observations(
            *window, [points([3.0, 4.0], [4.0, 4.0], kind="sit_of_ice")], [NOON - HOUR]
        )
    with pytest.raises(InputError, match="sic is observed, but the state of the network has sit"):
        window_observations(*window, [points([3.0], [4.0])], [NOON - HOUR])


def test_without_observations_in_the_window_the_cost_is_that_of_the_background():
    (source, model, initial), early = opened(), points([3.0], [4.0], time=NOON - DAY)
    observed, (table,) = window_observations(source, model, [early], [NOON])
    assert counts(table) == {"outside_window": 1}
    root = diagonal(np.full(2 * int(OCEAN.sum()), 0.05))
    problem = problem_of(model, initial, root, observed, variables=(0, 1, 0, 1))
    assert cost(problem, np.zeros(problem.shape)).total == 0
