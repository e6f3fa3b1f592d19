"""Exploring fields with hvplot: the right frame, colours and labels; only that frame is read."""

from io import BytesIO

import dask.array
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from seaice_lab import grid, progress
from seaice_lab.errors import InputError
from seaice_lab.figures import charts
from seaice_lab.figures.explore import explore, hvplot_ready

hv = pytest.importorskip("holoviews")
SIZE = 6


def positions(size=SIZE):
    """Coordinates of a square grid in the map plane."""
    centre = (np.arange(size) - size / 2 + 0.5) * 25e3
    latitude, longitude = grid.unproject(*np.meshgrid(centre, centre))
    return {
        "x": ("x", centre, {"units": "m"}),
        "y": ("y", centre, {"units": "m"}),
        "latitude": (("y", "x"), latitude),
        "longitude": (("y", "x"), longitude),
    }


def forecast(read=None, members=2):
    """A forecast (init_time, member, lead_time, y, x) with text and other coordinates."""
    shape = (2, members, 3, SIZE, SIZE)

    def block(block_info=None):
        location = block_info[None]["chunk-location"]
        if read is not None:
            read.append(location)
        return np.full((1, 1, 1, SIZE, SIZE), 100 * location[0] + 10 * location[1] + location[2])

    chunks = ((1,) * 2, (1,) * members, (1,) * 3, SIZE, SIZE)
    values = dask.array.map_blocks(block, chunks=chunks, dtype="float64", meta=np.empty(0))
    start = np.datetime64("2020-01-01", "ns") + np.arange(2) * np.timedelta64(1, "D")
    lead = np.arange(1, 4) * np.timedelta64(12, "h").astype("timedelta64[ns]")
    coords = positions() | {
        "init_time": start,
        "member": np.arange(members),
        "lead_time": lead,
        "valid_time": (("init_time", "lead_time"), start[:, None] + lead),
        "name": ("init_time", ["a", "b"]),
        "ocean": (("y", "x"), np.ones((SIZE, SIZE), bool)),
    }
    dims = ("init_time", "member", "lead_time", "y", "x")
    assert values.shape == shape
    return xr.DataArray(values, coords, dims, "sit", {"units": "m"})


def image_of(view, *key):
    return view[key].get(1) if key else view[()].get(1)


def test_a_frame_is_the_one_of_the_sliders_and_no_other_is_read():
    read = []
    view = explore(forecast(read))
    assert isinstance(view, hv.DynamicMap)
    assert [(d.name, d.label) for d in view.kdims] == [
        ("init_time", "Start (UTC)"), ("member", "member"), ("lead_time", "Lead time (days)")
    ]  # fmt: skip
    assert list(view.kdims[2].values) == [0.5, 1.0, 1.5]
    read.clear()
    image = image_of(view, view.kdims[0].values[1], 1, 1.5)
    assert set(read) == {(1, 1, 2, 0, 0)}
    assert set(np.unique(image.dimension_values(2))) == {112.0}
    options = image.opts.get("plot").kwargs
    assert image.range(2) == (0.0, 4.0) and options["clabel"] == "Sea-ice thickness (m)"
    assert options["title"] == "Sea-ice thickness from 2020-01-02 00:00, member 1, +1.5 days"
    assert options["data_aspect"] == 1
    assert image.kdims[0].name == "x" and image.range("x") == pytest.approx((-75, 75))


def test_turned_dimensions_falling_axes_and_equal_times_show_each_value_at_its_place():
    field = forecast(members=1).isel(init_time=0, member=0, drop=True).load()
    field = field + field.x / 1e6 + field.y / 1e5
    field = field.rename(lead_time="time").assign_coords(time=field.valid_time.values[[0, 1, 0]])
    turned = field.transpose("x", "time", "y").isel(y=slice(None, None, -1)).rename("sit")
    view = explore(turned.drop_vars("valid_time"))
    assert list(view.kdims[0].values) == [0, 1, 2]  # two times are equal: positions
    image = image_of(view, 2)
    drawn = image.dimension_values(2, flat=False)
    expected = field.isel(time=2).transpose("y", "x").values
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)


def test_a_dataset_offers_its_variables_with_their_own_colours():
    sit = forecast(members=1).isel(member=0, drop=True)
    dataset = sit.to_dataset().assign(t2m=(sit + 250).rename("t2m"), other=sit + 7.0)
    view = explore(dataset)
    assert list(view.kdims[0].values) == ["sit", "t2m", "other"]
    key = (view.kdims[1].values[0], 0.5)
    limits = [image_of(view, name, *key).vdims[0].range for name in view.kdims[0].values]
    assert limits == [(0.0, 4.0), (233.0, 283.0), (7.0, 7.0)]


def test_points_and_single_fields_are_shown_and_empty_frames_too():
    latitude, longitude = (positions()[name][1].ravel() for name in ("latitude", "longitude"))
    values = np.arange(float(latitude.size))
    values[3] = np.nan
    coords = {"latitude": ("point", latitude), "longitude": ("point", longitude)}
    points = xr.DataArray(values, coords, ["point"], "sic")
    drawn = np.sort(image_of(explore(points)).dimension_values(2))
    np.testing.assert_array_equal(drawn[np.isfinite(drawn)], np.delete(values, 3))
    hv.render(explore(points * np.nan))


def test_land_cells_of_the_grid_have_the_colour_of_land():
    field = forecast(members=1).isel(init_time=0, member=0, lead_time=0)
    ocean = field.ocean.copy()
    ocean[2, 3] = False
    land = explore(field, ocean)[()].get(2)
    np.testing.assert_array_equal(land.dimension_values(2, flat=False) == 1, ~ocean)


def test_histogram_and_series_follow_the_sliders_and_the_click():
    field = forecast()
    layout = explore(field, histogram=True, series=True)
    view, histogram, series = list(layout)
    key = (view.kdims[0].values[1], 1, 0.5)
    counts = histogram[key].last.dimension_values(1)
    assert counts.sum() == counts[-1] == SIZE**2  # the end bars hold what is beyond the colours
    curve = series[key]
    np.testing.assert_array_equal(curve.dimension_values(0), [0.5, 1.0, 1.5])
    np.testing.assert_array_equal(curve.dimension_values(1), [110.0, 111.0, 112.0])
    hv.render(layout)


def test_a_notebook_that_is_executed_unattended_shows_the_first_frame_as_a_picture(monkeypatch):
    monkeypatch.setenv(progress.BATCH, "1")
    views = explore(forecast()), explore(forecast(), histogram=True, series=True)
    widths = []
    for view in views:
        with Image.open(BytesIO(charts.first_frame(view))) as picture:
            widths.append(picture.width)
    assert widths[1] > 2 * widths[0] > 400


def test_another_frame_keeps_the_zoom():
    view = explore(forecast())
    start, member, lead = (slider.values for slider in view.kdims)
    plot = hv.renderer("bokeh").get_plot(view)
    plot.update((start[0], member[0], lead[0]))
    ranges = plot.state.x_range, plot.state.y_range
    for each in ranges:
        each.update(start=-30, end=40)
    plot.update((start[1], member[1], lead[2]))
    assert "+1.5 days" in plot.state.title.text
    assert [(each.start, each.end) for each in ranges] == [(-30, 40), (-30, 40)]


def test_the_numbers_at_the_axes_of_a_picture_do_not_touch(monkeypatch):
    monkeypatch.setenv(progress.BATCH, "1")
    cells = positions(128)  # 3200 km, as wide as the Arctic
    field = xr.DataArray(np.ones((2, 128, 128)), cells, ("step", "y", "x"), "sit", {"units": "m"})
    frame = explore(field)[0].opts(fig_inches=charts.FRAME_INCHES, backend="matplotlib")
    figure = hv.render(frame, backend="matplotlib")
    figure.draw_without_rendering()
    numbers = [text for text in figure.axes[0].get_xticklabels() if text.get_text()]
    boxes = sorted((text.get_window_extent() for text in numbers), key=lambda box: box.x0)
    assert len(boxes) > 2
    gaps = [right.x0 - left.x1 for left, right in zip(boxes[:-1], boxes[1:], strict=True)]
    assert min(gaps) > boxes[0].height / 2


def test_a_field_without_positions_is_refused():
    with pytest.raises(InputError, match="has no positions"):
        explore(xr.DataArray(np.zeros((3, 3)), dims=("a", "b"), name="sit"))


def test_a_forecast_is_drawn_by_hvplot_itself():
    import hvplot.xarray  # noqa: F401

    ready = hvplot_ready(forecast())
    assert ready.lead_time.values.tolist() == [0.5, 1.0, 1.5] and ready.x.attrs["units"] == "km"
    assert ready.chunks is not None  # nothing was read
    hv.render(ready.isel(init_time=0, member=0, y=2, x=2).hvplot())
    image = ready.hvplot.image(x="x", y="y", data_aspect=1)
    assert {d.name: d.unit for d in image.kdims}["lead_time"] == "days"
    hv.render(image)
