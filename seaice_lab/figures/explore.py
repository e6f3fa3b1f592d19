"""Explore any field of the project in a notebook: a linked map with sliders, drawn by hvplot.

hvplot and HoloViews are imported inside the functions, because their import takes seconds.
"""

import numpy as np
import xarray as xr

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, linked_maps, rasters
from seaice_lab.figures.axes import axis_label
from seaice_lab.figures.colours import palette, palette_of
from seaice_lab.figures.plane import COAST, LAND

LABELS = {"time": "Time (UTC)", "init_time": "Start (UTC)", "lead_time": "Lead time (days)"}
LABELS |= {"day": "Day"}
WIDTH = 560  # pixels of a map
PICTURE_TICKS = 4  # intervals along x
BINS = 50
QUANTILES = (0.02, 0.98)  # of a frame, for the colours of a variable that `names` does not list
ROUNDING = 9  # digits of lead times in days


def hvplot_ready(field):
    """A field with coordinates that hvplot can draw: lead times in days, positions in km.

    Parameters
    ----------
    field : DataArray or Dataset
        A field of a store or of a forecast.

    Returns
    -------
    DataArray or Dataset
        The same values, still lazy. ``lead_time`` holds days, and ``x`` and ``y`` kilometres.
        Coordinates that are not an axis, such as ``valid_time`` and texts, are dropped.
    """
    field = field.drop_vars([name for name in field.coords if name not in field.dims])
    for name, coordinate in field.coords.items():
        values, attrs = _in_days(coordinate.values), {}
        if coordinate.dtype.kind == "m":
            attrs = {"long_name": name.replace("_", " ").capitalize(), "units": "days"}
        elif name in ("x", "y") and names.canonical_units(coordinate.attrs.get("units", "")) == "m":
            values, attrs = values / 1000, {"long_name": name, "units": "km"}
        if attrs:
            field = field.assign_coords({name: (name, values, attrs)})
    return field


def _in_days(values):
    """Time differences in days; other values as they are."""
    if values.dtype.kind != "m":
        return values
    return (values / np.timedelta64(1, "D")).round(ROUNDING)


def explore(field, ocean=None, colour_range=None, histogram=False, series=False):
    """Interactive map of a field, with a slider for each other dimension.

    A new frame keeps the zoom. Only the frame that is shown is read. Maps that are shown together
    (``explore(a) + explore(b)``) zoom and pan together. A notebook that is executed unattended
    shows a picture of the first frame.

    Parameters
    ----------
    field : DataArray or Dataset
        ``(time, y, x)`` of a store, ``(init_time, [member,] lead_time, y, x)`` of a forecast, or
        any other with latitude and longitude ``(y, x)`` or ``(point,)``, or with x and y in metres
        of the map plane. A dataset offers its variables in a list.
    ocean : DataArray of bool (y, x), optional
        True where sea. The coordinate or variable ``ocean`` of the field by default.
    colour_range : (float, float), optional
        By default that of the variable, which is the same for all frames.
    histogram : bool
        Also show the distribution of the values of the frame.
    series : bool
        Also show one cell through time: the cell that is clicked, at first one in the middle.

    Returns
    -------
    holoviews.DynamicMap or holoviews.Layout
        The map. With a histogram or a series, a Layout of such maps.

    Raises
    ------
    InputError
        If the field has no variable to map or no positions.
    """
    hv = charts.load_notebook()
    view = _View(field, ocean, colour_range)
    kdims = [hv.Dimension(name, label=label, values=values) for name, label, values in view.sliders]
    background, land, coast = _land(hv, view.raster)

    def draw_map(*key):
        return background * view.image(key) * land * coast

    plots = [hv.DynamicMap(draw_map, kdims=kdims)]
    if histogram:
        plots.append(hv.DynamicMap(lambda *key: view.histogram(key), kdims=kdims))
    if series and view.series_dim:
        x, y = view.centre()
        tap = hv.streams.Tap(source=plots[0], x=x, y=y)

        def draw_series(*key, **position):
            return view.series(key, **position)

        plots.append(hv.DynamicMap(draw_series, kdims=kdims, streams=[tap]))
    if len(plots) == 1:
        return plots[0]
    # The sliders and the title of the map already say what the title of the layout would.
    return hv.Layout(plots).cols(1).opts(hv.opts.Layout(show_title=False, backend="bokeh"))


def _land(hv, raster):
    """The land around the grid, the land of the grid, and its coast."""
    scene = linked_maps.scene(raster)
    # HoloViews refuses the gap after the last outline.
    outlines = {axis: points[:-1] for axis, points in scene.land.data.items()}
    background = hv.Polygons([outlines]).opts(
        hv.opts.Polygons(color=LAND, line_color=None, backend="bokeh"),
        hv.opts.Polygons(facecolor=LAND, edgecolor="none", backend="matplotlib"),
    )
    land = hv.Image((raster.x, raster.y, scene.mask.data["image"][0]))
    land = land.opts(cmap=["#00000000", LAND], clim=(0, 1))
    return background, land, hv.Path([scene.coast.data]).opts(color=COAST)


class _View:
    """The variables of a field, their colours, their cells on the map, and the sliders."""

    def __init__(self, field, ocean, colour_range):
        if ocean is None and "ocean" in {*field.coords, *getattr(field, "data_vars", ())}:
            ocean = field["ocean"]
        is_array = isinstance(field, xr.DataArray)
        dataset = field.to_dataset(name=field.name or "value") if is_array else field
        first = next((v for v in dataset.data_vars.values() if v.ndim and _shape(v)), None)
        if first is None:
            raise InputError(
                "the field has no positions: expected latitude and longitude (y, x) or (point,), "
                "or x and y in metres; assign them from the prepared store"
            )
        self.shape, self.colour_range, self.styles = _shape(first), colour_range, {}
        arrays = {name: v for name, v in dataset.data_vars.items() if v.dims == first.dims}
        self.arrays = {name: v for name, v in arrays.items() if v.dtype.kind in "fiub"}
        self.raster = _raster(first, self.shape, ocean)
        dims = [name for name in first.dims if name not in self.shape]
        self.series_dim = next((d for d in ("lead_time", "time", *dims) if d in dims), None)
        self.values = {name: _slider_values(first, name) for name in dims}
        self.sliders = [(name, LABELS.get(name, name), self.values[name]) for name in dims]
        if len(self.arrays) > 1:
            self.sliders.insert(0, ("variable", "Variable", list(self.arrays)))

    def select(self, key):
        """The variable and the positions on its other dimensions, from values of the sliders."""
        name, *key = key if len(self.arrays) > 1 else (next(iter(self.arrays)), *key)
        positions = zip(self.values.items(), key, strict=True)
        return self.arrays[name], {d: values.index(value) for (d, values), value in positions}

    def frame(self, key):
        """Values of the cells of one frame, its title and its style; only this frame is read."""
        array, positions = self.select(key)
        frame = array.isel(positions)
        title = ", ".join(_text(frame[d].values, d) for d in positions if d in frame.coords)
        values = np.asarray(frame.transpose(*self.shape).values, "float32")
        if array.name not in self.styles:
            self.styles[array.name] = _style(array, values, self.colour_range)
        return (
            xr.DataArray(values, dims=self.shape, name=array.name),
            title,
            self.styles[array.name],
        )

    def image(self, key):
        frame, title, style = self.frame(key)
        raster = self.raster
        picture = rasters.picture(raster, frame.values, pixels=max(raster.source.shape))
        axes = {"y": raster.y, "x": raster.x}
        image = xr.DataArray(picture["image"][0], axes, ("y", "x"), frame.name)
        limits = {"clim": style["limits"], "xlim": raster.extent[:2], "ylim": raster.extent[2:]}
        labels = {"clabel": style["label"], "xlabel": "x (km)", "ylabel": "y (km)"}
        labels["title"] = f"{style['title']} {title}"
        size = {"frame_width": WIDTH, "data_aspect": 1}
        # By default, hvplot gives every new frame the whole range, and the zoom would be lost.
        kept = {"framewise": False, "cmap": style["colours"]}
        drawn = _hvplot(image).image("x", "y", **kept, **limits, **labels, **size)
        # In a picture, which is smaller, more numbers along x would touch each other.
        return drawn.opts(charts.holoviews().opts.Image(xticks=PICTURE_TICKS, backend="matplotlib"))

    def histogram(self, key):
        frame, title, style = self.frame(key)
        # The end bars hold the values beyond the colours, so that the axis is that of the colours.
        values = np.clip(frame.values[np.isfinite(frame.values)], *style["limits"])
        bins = {"bins": BINS, "bin_range": style["limits"], "legend": False}
        labels = {"xlabel": style["label"], "ylabel": "Cells", "title": title}
        return _hvplot(xr.DataArray(values, dims="cell", name=frame.name)).hist(
            **bins, **labels, frame_width=WIDTH, frame_height=150
        )

    def series(self, key, x, y):
        """The cell at a position through time; the other sliders stay."""
        array, positions = self.select(key)
        if array.name not in self.styles:
            self.frame(key)
        column, row = abs(self.raster.x - x).argmin(), abs(self.raster.y - y).argmin()
        cell = self.raster.source[row, column]
        sizes = [array.sizes[d] for d in self.shape]
        positions |= zip(self.shape, np.unravel_index(max(cell, 0), sizes), strict=True)
        dim = self.series_dim
        values = np.asarray(array.isel({d: k for d, k in positions.items() if d != dim}), float)
        values = xr.DataArray(values, {dim: self.values[dim]}, [dim], array.name).where(cell >= 0)
        labels = {"xlabel": LABELS.get(dim, dim), "ylabel": self.styles[array.name]["label"]}
        labels["title"] = f"Cell at x {x:.0f} km, y {y:.0f} km"
        line = _hvplot(values).line(x=dim, **labels, frame_width=WIDTH, frame_height=150)
        hooks = [charts.short_dates] if values[dim].dtype.kind == "M" else []
        return line.opts(charts.holoviews().opts.Curve(hooks=hooks, backend="matplotlib"))

    def centre(self):
        """Position of the cell of the grid that is nearest to the middle of the map."""
        rows, columns = np.nonzero(self.raster.source >= 0)
        middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        return float(self.raster.x[columns[middle]]), float(self.raster.y[rows[middle]])


def _hvplot(field):
    """As ``field.hvplot``, whose import would send Bokeh's script to a notebook once more."""
    from hvplot import hvPlot

    return hvPlot(field)


def _shape(field):
    """The dimensions of the cells of a field, () if it has no positions."""
    if "latitude" in field.coords and set(field.latitude.dims) <= set(field.dims):
        return field.latitude.dims
    return ("y", "x") if {"y", "x"} <= set(field.dims) & set(field.coords) else ()


def _raster(field, shape, ocean):
    """How the cells of a field are shown; without a mask all of them are sea."""
    if len(shape) == 1:
        return rasters.raster_of_points(field.latitude.values, field.longitude.values)
    axes = dict(zip(shape, ("y", "x"), strict=True))
    frame = field.isel({name: 0 for name in field.dims if name not in shape})
    frame = frame.transpose(*shape).rename(axes)
    if ocean is None:
        return rasters.raster_of(frame, xr.ones_like(frame, bool).compute())
    return rasters.raster_of(frame, ocean.transpose(*shape).rename(axes).astype(bool))


def _slider_values(field, name):
    """What a slider offers: the values of a coordinate, or positions if some are equal."""
    values = _in_days(field[name].values)  # of a dimension without coordinate: its positions
    return list(values) if len(set(values.tolist())) == len(values) else list(range(len(values)))


def _text(value, dimension):
    """A value of a coordinate in a title, such as "+5 days"."""
    if value.dtype.kind == "M":
        text = np.datetime_as_string(value, unit="m").replace("T", " ")
        return f"{'from ' if dimension == 'init_time' else ''}{text}"
    if value.dtype.kind == "m":
        return f"+{names.in_days(value / np.timedelta64(1, 'D'))}"
    return f"{dimension} {value}"


def _style(field, values, colour_range):
    """Colours, their limits, label and title of a variable."""
    variable = names.VARIABLES.get(field.name)
    title = (variable.long_name if variable else field.attrs.get("long_name", field.name)) or ""
    units = variable.units if variable else field.attrs.get("units", "1")
    limits = colour_range or (variable and variable.colour_range)
    if not limits:
        finite = values[np.isfinite(values)]
        limits = np.quantile(finite, QUANTILES) if finite.size else (0.0, 1.0)
    title = title.partition(" (")[0]
    colours = palette_of(variable, limits) if variable else palette("viridis", limits)
    label = axis_label(title, units)
    return {"colours": colours, "limits": tuple(map(float, limits)), "label": label, "title": title}
