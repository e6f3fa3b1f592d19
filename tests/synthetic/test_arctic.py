"""The synthetic Arctic: conservation, bounds, directions, seasons, and honest files."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab import grid, land
from seaice_lab.errors import InputError
from seaice_lab.synthetic import arctic, climate
from seaice_lab.synthetic import sea_ice as physics
from seaice_lab.synthetic.sea_ice import State, Weather, drift, transport

ICE = arctic.ICE_VARIABLES


def frames(**settings):
    return list(arctic.simulate(**{"size": 32, "days": 3, "step_h": 12} | settings))


def volume(fields):
    return np.nansum(fields["sit"].astype("float64"))


def open_sea(size, thickness=0.0, concentration=0.0):
    """A state on a square sea without coast but its edge."""
    ocean = np.zeros((size, size), bool)
    ocean[1:-1, 1:-1] = True
    zero = np.zeros((size, size))
    state = State(
        zero + thickness * ocean, zero + concentration * ocean, zero, zero, zero - 1.8,
        np.zeros((size + 1, size + 1), "complex64"), (zero, zero, zero),
    )  # fmt: skip
    return state, ocean


def test_the_grid_has_the_real_coast():
    domain = land.polar_grid(96)
    ocean = domain.ocean.values

    def is_sea(latitude, longitude):
        x, y = grid.project(latitude, longitude)
        return bool(domain.ocean.sel(x=x, y=y, method="nearest"))

    assert is_sea(89.5, 0)
    assert is_sea(75, -150)
    assert is_sea(74, 40)
    assert is_sea(73, -67)
    assert not is_sea(72, -40)
    assert not is_sea(69, 88)
    assert not is_sea(67, 135)
    assert not ocean[[0, -1]].any()
    assert not ocean[:, [0, -1]].any()
    area = grid.cell_area(domain).values[ocean].sum()
    assert area == pytest.approx(14.5e12, rel=0.05)


def test_without_growth_the_ice_volume_is_conserved_to_rounding():
    (_, first), *_, (_, last) = frames(days=6, growth=False)
    assert not np.array_equal(first["sit"], last["sit"], equal_nan=True)
    # float32 output of conserved float64 sums
    assert volume(last) == pytest.approx(volume(first), rel=1e-6)


def test_transport_alone_conserves_ice_and_snow_in_double_precision():
    state, ocean = open_sea(24)
    rng = np.random.default_rng(0)
    thickness = np.where(ocean, rng.random(ocean.shape) * 3, 0)
    speed = rng.standard_normal((25, 25)) + 1j * rng.standard_normal((25, 25))
    state = state._replace(
        thickness=thickness, concentration=np.minimum(thickness, 1.0), snow=thickness / 10,
        velocity=0.3 * speed * physics.wet_corners(ocean),
    )  # fmt: skip
    moved = state
    for _ in range(40):
        moved = transport(moved, 25e3, 7200.0)
        assert moved.thickness.min() >= 0
        assert moved.concentration.max() <= 1
    assert moved.thickness.sum() == pytest.approx(state.thickness.sum(), rel=1e-13)
    assert moved.snow.sum() == pytest.approx(state.snow.sum(), rel=1e-13)
    assert np.all(moved.thickness[~ocean] == 0)


def test_a_blob_moves_with_the_velocity():
    state, ocean = open_sea(64)
    y, x = np.mgrid[:64, :64]
    blob = np.exp(-((x - 20) ** 2 + (y - 40) ** 2) / 20.0) * ocean
    uniform = np.full((65, 65), 0.3 - 0.2j) * physics.wet_corners(ocean)
    state = state._replace(thickness=blob, concentration=np.minimum(blob, 1), velocity=uniform)
    for _ in range(100):
        state = transport(state, 25e3, 7200.0)
    centre = [(state.thickness * axis).sum() / state.thickness.sum() for axis in (x, y)]
    cells = 100 * 7200 / 25e3
    assert centre == pytest.approx([20 + 0.3 * cells, 40 - 0.2 * cells], abs=0.1)


def test_free_drift_goes_to_the_right_of_the_wind_at_its_angle_and_speed():
    state, ocean = open_sea(24, thickness=0.3, concentration=0.3)
    wind = Weather(np.full((24, 24), 10.0 + 0j), np.full((24, 24), 250.0))
    for _ in range(20):
        state = drift(state, wind, ocean, 40e3, 10800.0, np.ones((24, 24)))
    middle = state.velocity[12, 12]
    assert np.degrees(np.angle(middle)) == pytest.approx(-22, abs=1)
    assert abs(middle) == pytest.approx(10 * physics.SYNTHETIC_WIND_FACTOR, rel=0.02)


def test_compact_thick_ice_resists_and_damage_weakens_it():
    def speed(thickness, damage):
        state, ocean = open_sea(24, thickness, 1.0)
        state = state._replace(damage=damage * ocean)
        # A wind that converges on the middle must overcome the ice's strength.
        x = np.linspace(1, -1, 24)[None] * np.ones((24, 1))
        wind = Weather(10.0 * x + 0j, np.full((24, 24), 250.0))
        for _ in range(10):
            state = drift(state, wind, ocean, 40e3, 10800.0, np.full((24, 24), 1e9))
            state = state._replace(damage=damage * ocean)
        return np.abs(state.velocity).mean()

    thin, thick, broken = speed(0.2, 0.0), speed(3.0, 0.0), speed(3.0, 0.98)
    assert thick < 0.5 * thin
    assert broken > 1.5 * thick


def test_bounds_hold_and_nothing_moves_through_the_coast():
    domain = land.polar_grid(32)
    ocean = domain.ocean.values
    for _, fields in frames(days=10):
        assert fields["sit"][ocean].min() >= 0
        for name in ("sic", "damage"):
            assert 0 <= fields[name][ocean].min()
            assert fields[name][ocean].max() <= 1
        assert all(np.isnan(fields[name][~ocean]).all() for name in ICE)
        assert np.hypot(fields["siu"], fields["siv"])[ocean].max() < 1
        assert np.isfinite(fields["t2m"]).all()


def test_the_seed_decides_the_numbers():
    a, b, c = (frames(days=2, seed=seed)[-1][1] for seed in (1, 1, 2))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert not np.array_equal(a["u10"], c["u10"])


def test_winter_grows_ice_and_summer_melts_it():
    winter = frames(days=12, start="2001-02-01")
    summer = frames(days=12, start="2001-07-05")
    assert volume(winter[-1][1]) > 1.03 * volume(winter[0][1])
    assert volume(summer[-1][1]) < 0.9 * volume(summer[0][1])
    assert np.nanmean(winter[0][1]["t2m"]) < 262 < np.nanmean(summer[0][1]["t2m"])


def test_deformation_breaks_ice_and_rest_heals_it():
    state, ocean = open_sea(24, 2.0, 1.0)
    storm = Weather(15 * np.sin(np.arange(24) / 3)[:, None] * np.ones((24, 24)) + 0j, None)
    calm = Weather(np.zeros((24, 24), complex), None)
    weak = np.ones((24, 24))
    for _ in range(8):
        state = drift(state, storm, ocean, 40e3, 10800.0, weak)
    broken = state.damage[ocean].mean()
    assert broken > 0.2
    unbreakable = 1e9 * weak
    for _ in range(80):
        state = drift(state, calm, ocean, 40e3, 10800.0, unbreakable)
    expected = np.exp(-80 * 10800.0 / physics.HEALING_S) * broken
    assert state.damage[ocean].mean() == pytest.approx(expected, rel=1e-6)


def test_files_are_monthly_cf_and_readable_as_a_dataset(tmp_path):
    paths = arctic.write(tmp_path, size=24, days=3, step_h=12, start="2001-01-30", show=False)
    assert [path.name for path in paths] == [
        "synthetic_arctic_2001m01.nc", "synthetic_arctic_2001m02.nc",
    ]  # fmt: skip
    with xr.open_mfdataset(paths) as dataset:
        assert dataset.sizes["time"] == 6
        assert dataset.sit.attrs["standard_name"] == "sea_ice_thickness"
        assert dataset.sit.attrs["units"] == "m"
        assert "synthetic" in dataset.attrs["source"]
    with xr.open_dataset(paths[0], decode_times=False) as raw:
        assert raw.time.dtype == "float64"


def test_an_interrupted_run_leaves_whole_months_only(tmp_path, monkeypatch):
    def stops(*args, **kwargs):
        for number, frame in enumerate(simulate(*args, **kwargs)):
            if number == 5:
                raise KeyboardInterrupt
            yield frame

    simulate = arctic.simulate
    monkeypatch.setattr(arctic, "simulate", stops)
    with pytest.raises(KeyboardInterrupt):
        arctic.write(tmp_path, size=24, days=4, step_h=12, start="2001-01-30", show=False)
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic_arctic_2001m01.nc"]


def test_senseless_sizes_and_intervals_are_refused():
    with pytest.raises(InputError, match="size is 8; expected at least 16"):
        land.polar_grid(8)
    with pytest.raises(InputError, match="step_h 5; .* divides 24 h"):
        frames(step_h=5)


def test_a_mirrored_wind_drives_a_mirrored_drift_with_the_turning_of_the_south():
    state, ocean = open_sea(24, 0.5, 0.9)
    wind = 8 * np.exp(1j * np.linspace(0, 3, 24))[None] * np.ones((24, 1))
    air, weak = np.full((24, 24), 250.0), np.ones((24, 24))
    north = drift(state, Weather(wind, air), ocean, 40e3, 10800.0, weak)
    # Rows in reverse order and v with the other sign: the Earth seen in a mirror.
    southern = Weather(wind[::-1].conj(), air)
    south = drift(state, southern, ocean, 40e3, 10800.0, weak, physics.TURNING.conjugate())
    np.testing.assert_allclose(south.velocity, north.velocity[::-1].conj(), atol=1e-6)
    np.testing.assert_allclose(south.damage, north.damage[::-1], atol=1e-6)


def test_the_synthetic_antarctic_has_the_seasons_of_the_south_and_lows_that_turn_clockwise():
    south = {"hemisphere": "south", "days": 4, "size": 24}
    winter, summer = (frames(**south, start=start)[-1][1] for start in ("2001-08-01", "2001-01-05"))
    domain = land.polar_grid(24, "south")
    assert domain.latitude.max() < -40
    area = grid.cell_area(domain).values

    def extent(fields):
        return area[fields["sic"] > 0.15].sum() / 1e12

    assert 14 < extent(winter) < 25
    assert extent(summer) < extent(winter)
    assert np.nanmean(winter["t2m"]) < np.nanmean(summer["t2m"]) - 10
    # Ice drifts to the left of the wind, apart from ice that is held by a coast.
    wind = winter["u10"] + 1j * winter["v10"]
    drift_of_ice = winter["siu"] + 1j * winter["siv"]
    moving = (np.abs(drift_of_ice) > 0.05) & (np.abs(wind) > 3)
    assert np.median(np.angle(drift_of_ice[moving] / wind[moving], deg=True)) > 5
    # Around the low pressure of the trough the wind north of it is westerly: clockwise.
    x, y = climate.plane(domain)
    ring = np.hypot(x, y) > 3e6
    clockwise = (wind * np.exp(-1j * np.arctan2(y, x))).imag[ring].mean()
    assert clockwise < 0


def test_files_of_the_south_are_named_and_described_as_antarctic(tmp_path):
    (path,) = arctic.write(
        tmp_path, size=24, days=1, step_h=12, hemisphere="south", seed=3, show=False
    )
    assert path.name == "synthetic_antarctic_2001m01.nc"
    with xr.open_dataset(path) as dataset:
        assert "Synthetic Antarctic" in dataset.attrs["title"]
        assert "seed 3" in dataset.attrs["source"]
        assert dataset.latitude.max() < 0
