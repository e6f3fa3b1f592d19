"""Maps: what is drawn, in which colours, and with which units."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from conftest import wave_run
from matplotlib.collections import LineCollection, QuadMesh
from PIL import Image

from seaice_lab import grid
from seaice_lab.errors import InputError
from seaice_lab.figures import maps
from seaice_lab.figures.animation import animate


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def waves():
    run = wave_run(times=6).assign_coords(init_time=np.datetime64("2010-01-01", "ns"))
    sit = run.sit.assign_attrs(units="m").rename(time="lead_time")
    sit["lead_time"] = np.arange(6) * np.timedelta64(12, "h")
    return sit, (run.mask == 1).drop_vars("init_time")


def meshes(ax):
    return [item for item in ax.collections if isinstance(item, QuadMesh)]


def test_a_map_shows_the_field_over_the_ocean_only_with_units_on_its_bar(waves):
    sit, ocean = waves
    figure = maps.plot_map(sit[0], ocean)
    ax, bar = figure.axes
    shown = np.ma.concatenate([mesh.get_array().ravel() for mesh in meshes(ax)][-1:])
    values = np.sort(shown.compressed())
    np.testing.assert_allclose(values, np.sort(sit.values[0][ocean.values]))
    assert "(m)" in bar.get_ylabel()
    assert meshes(ax)[-1].get_clim() == (0, 4)


def test_the_coast_on_the_map_is_the_masks_own(waves):
    sit, ocean = waves
    ax = maps.plot_map(sit[0], ocean).axes[0]
    expected = grid.coastline(ocean.values, sit.x.values, sit.y.values)
    drawn = [
        len(item.get_segments()) for item in ax.collections if isinstance(item, LineCollection)
    ]
    assert len(expected) in drawn


def test_differences_share_one_range_that_is_symmetric_about_zero(waves):
    sit, ocean = waves
    forecast = sit + 0.1 * np.sin(np.arange(6))[:, None, None]
    figure = maps.field_panels(
        sit, {"Surrogate": forecast, "Flat": sit * 0 + 1.0}, ["12h", "24h", "48h"], ocean
    )
    assert len(figure.axes) == 5 * 3 + 2
    limits = [meshes(ax)[-1].get_clim() for ax in figure.axes[: 5 * 3]]
    fields, differences = set(limits[:9]), set(limits[9:])
    assert fields == {(0, 4)}
    assert len(differences) == 1
    ((low, high),) = differences
    assert low == -high < 0
    text = " ".join(item.get_text() for item in figure.findobj(plt.Text))
    assert "12 h" in text
    assert "Surrogate" in text


def test_a_lead_time_that_is_not_there_is_refused(waves):
    sit, ocean = waves
    with pytest.raises(InputError, match="lacks the lead times .*30 days"):
        maps.field_panels(sit, {"Surrogate": sit}, ["30D"], ocean)


def test_a_field_without_positions_is_refused(waves):
    sit, ocean = waves
    bare = xr.DataArray(sit.values[0], dims=("y", "x"), name="sit", attrs={"units": "m"})
    with pytest.raises(InputError, match="the coordinates none, expected latitude and longitude"):
        maps.plot_map(bare, ocean)


def test_an_animation_has_a_frame_a_time_and_another_ending_is_refused(waves, tmp_path):
    sit, ocean = waves
    dated = sit.rename(lead_time="time").assign_coords(
        time=np.datetime64("2010-01-01", "ns") + np.arange(6) * np.timedelta64(12, "h")
    )
    made = animate(
        {"Truth": dated, "Twice": 2 * dated.assign_attrs(units="m")}, ocean, tmp_path / "season.gif"
    )
    with Image.open(made) as moving:
        assert moving.n_frames == 6
    assert [path.name for path in tmp_path.iterdir()] == ["season.gif"]
    with pytest.raises(InputError, match="season.avi: cannot be written here; use the ending .gif"):
        animate({"Truth": dated}, ocean, tmp_path / "season.avi")
