"""Simulated observations: the same in every layout, and close to real ones."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.settings import ObservationsConfig, SimulateConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.errors import InputError

SMALL = {"size": 24, "days": 4, "sensors": ("amsr2",), "observations": (3000,)}


def test_every_layout_holds_the_same_observations(tmp_path):
    by_layout = []
    for layout in ("month", "year", "sensors"):
        folder = simulate(SimulateConfig(layout=layout, **SMALL), tmp_path / layout, show=False)
        config = ObservationsConfig(data=str(folder))
        by_layout.append(prepare(config, tmp_path / f"{layout}-columns", show=False))
    for observations in by_layout[1:]:
        for name in ("index", "scalars", "channels", "julian_day", "sea_ice_first_guess"):
            np.testing.assert_array_equal(
                getattr(by_layout[0], name), getattr(observations, name), name
            )


def test_a_world_departs_from_the_default_only_where_its_settings_say(tmp_path):
    """Other ice, biases and first guess leave the concentration and the weather as they are."""
    change = dict(first_guess="shifted_edge", ice="new_type", largest_bias_k=5.0, missing=0.3)
    worlds = []
    for name, settings in {"default": {}, "changed": change | {"cloud_error": 0.1}}.items():
        folder = simulate(SimulateConfig(**SMALL, **settings), tmp_path / name, show=False)
        config = ObservationsConfig(data=str(folder))
        columns = prepare(config, tmp_path / f"{name}-columns", show=False)
        worlds.append((xr.load_dataset(folder / "truth.nc"), columns))
    (truth, columns), (changed_truth, changed) = worlds
    np.testing.assert_array_equal(truth.sic, changed_truth.sic)
    assert np.isfinite(columns.channels[:, 0]).all()
    assert np.isnan(changed.channels[:, 0]).mean() == pytest.approx(0.3, abs=0.02)
    assert set(np.unique(changed.index[:, 1])) < set(np.unique(columns.index[:, 1]))
    assert (changed.sea_ice_first_guess != columns.sea_ice_first_guess).mean() > 0.1


def given_ice(days, points=40, seed=0):
    rng = np.random.default_rng(seed)
    concentrations = rng.uniform(0, 1, (2, points, days + 1))
    fields = dict(zip(("sic", "first_guess"), concentrations, strict=True))
    variables = {name: (("grid", "lagstep"), values) for name, values in fields.items()}
    x, y = rng.uniform(-1e6, 1e6, (2, points))
    latitude, longitude = rng.uniform(70, 88, points), rng.uniform(-180, 180, points)
    positions = {"x": x, "y": y, "lat": latitude, "lon": longitude}
    return xr.Dataset(variables | {name: ("grid", each) for name, each in positions.items()})


def test_given_ice_is_observed_with_its_own_first_guess(tmp_path):
    ice = given_ice(SMALL["days"])
    folder = simulate(SimulateConfig(**SMALL, first_guess_error=0), tmp_path, False, ice)
    truth = xr.load_dataset(folder / "truth.nc")
    for name in ("sic", "lat", "lon", "x", "y"):
        np.testing.assert_allclose(truth[name], ice[name], rtol=1e-6)
    columns = prepare(ObservationsConfig(data=str(folder)), tmp_path / "columns", show=False)
    np.testing.assert_allclose(columns.sea_ice_first_guess, ice.first_guess, atol=1e-6)
    point, day = columns.index[:, 0], columns.index[:, 1] + 1
    expected = 0.6 * ice.sic.values[point, day] + 0.4 * ice.sic.values[point, day - 1]
    np.testing.assert_allclose(truth.sic_at_obs_amsr2, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("days", "name", "factor", "sentence"),
    [
        (3, "sic", 1, "found 4 days"),
        (4, "sic", 2, "from 0 to 1"),
        (4, "sic", np.nan, "from nan to nan"),
        (4, "first_guess", np.nan, "from nan to nan"),
        (4, "first_guess", 100, "from 0 to 1"),
    ],
)
def test_given_ice_that_is_not_complete_is_refused(days, name, factor, sentence, tmp_path):
    ice = given_ice(days)
    ice[name] = factor * ice[name]
    with pytest.raises(InputError, match=sentence):
        simulate(SimulateConfig(**SMALL), tmp_path, False, ice)


def test_another_seed_is_another_ice(tmp_path):
    concentrations = []
    for seed in (0, 1):
        config = SimulateConfig(seed=seed, **SMALL)
        folder = simulate(config, tmp_path / str(seed), show=False)
        concentrations.append(xr.load_dataset(folder / "truth.nc").sic)
    first, second = concentrations
    assert np.abs(first - second).max() > 0.5
    assert first.min() == 0 and first.max() <= 1


def test_brightness_temperatures_are_near_the_tie_points_of_the_nasa_team(tmp_path):
    """Open water and first-year ice as AMSR2 sees them in the north (as listed by NSIDC)."""
    config = SimulateConfig(**SMALL | {"observations": (20_000,)}, noise=0.0)
    folder = simulate(config, tmp_path / "ice", show=False)
    observations = prepare(ObservationsConfig(data=str(folder)), tmp_path / "columns", show=False)
    truth = xr.load_dataset(folder / "truth.nc")
    ice = truth.sic_at_obs_amsr2.values
    old = truth.old_ice_share.values[observations.index[:, 0], observations.index[:, 1] + 1]
    tb = {
        name: observations.channels[:, 0, place]
        for place, name in enumerate(observations.instruments.channels)
    }
    tie_points = {"19h": (109.6, 234.7), "19v": (190.6, 253.1), "37v": (211.2, 244.2)}
    for channel, (water, first_year) in tie_points.items():
        assert tb[channel][ice == 0].mean() == pytest.approx(water, abs=15), channel
        young = (ice > 0.95) & (old < 0.2)
        # the simulated instrument has a bias of 5 K over ice
        assert tb[channel][young].mean() - 5 == pytest.approx(first_year, abs=15), channel


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"observations": (1, 2)}, "2 counts for 1 sensors"),
        ({"layout": "year", "sensors": ("gmi", "amsr2"), "observations": (1, 2)}, "one sensor"),
        ({"sensors": ("amsr9",)}, "unknown sensor 'amsr9'"),
    ],
)  # fmt: skip
def test_cases_that_cannot_be_simulated_are_refused(options, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        simulate(SimulateConfig(**SMALL | options), tmp_path / "ice", show=False)


def test_a_case_of_both_hemispheres_holds_the_points_of_each_with_its_season(tmp_path):
    case = SMALL | {"size": 16, "hemisphere": "both", "start": "2021-09-01"}
    truth = xr.load_dataset(simulate(SimulateConfig(**case), tmp_path, show=False) / "truth.nc")
    south = truth.lat.values < 0
    assert 100 < south.sum() < len(south) - 50
    # In September the ice of the south has its maximum, that of the north its minimum.
    winter, summer = truth.sic.values[south, 1], truth.sic.values[~south, 1]
    assert (winter > 0.5).sum() > 50
    assert truth.lat.values[south][winter > 0.5].max() < -55
    assert truth.lat.values[~south][summer > 0.5].min() > 70
    observed = set(np.unique(xr.load_dataset(tmp_path / "amsr2" / "amsr2_IGRID.nc").IGRID))
    assert observed & set(np.flatnonzero(south)) and observed & set(np.flatnonzero(~south))
