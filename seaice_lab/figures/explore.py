"""Explore any field of the project in a notebook: a linked map with sliders, drawn by hvplot.

hvplot and HoloViews are imported inside the functions, because their import takes seconds.
"""

import numpy as np
import xarray as xr

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import linked_maps, rasters
from seaice_lab.figures.plane import COAST, LAND

LABELS = {"time": "Time (UTC)", "init_time": "Start (UTC)", "lead_time": "Lead time (days)"}
WIDTH = 560  # pixels of a map
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
        values, units = coordinate.values, None
        if values.dtype.kind == "m":
            values, units = (values / np.timedelta64(1, "D")).round(ROUNDING), "days"
        elif name in ("x", "y") and names.canonical_units(coordinate.attrs.get("units", "")) == "m":
            values, units = values / 1000, "km"
        if units:
            label = name.replace("_", " ").capitalize() if units == "days" else name
            attrs = {"long_name": label, "units": units}
            field = field.assign_coords({name: (name, values, attrs)})
    return field


def explore(field, ocean=None, colour_range=None, histogram=False, series=False):
    """Interactive map of a field, with a slider for each other dimension.

    A new frame keeps the zoom. Only the frame that is shown is read. Maps that are shown together
    (``explore(a) + explore(b)``) zoom and pan together.

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
    import holoviews as hv

    if "bokeh" not in hv.Store.loaded_backends():
        hv.extension("bokeh", inline=True, logo=False)  # load nothing from the internet
    import hvplot.xarray  # noqa: F401  (adds `.hvplot` to DataArray)

    view = _View(field, ocean, colour_range)
    kdims = [hv.Dimension(name, label=label, values=values) for name, label, values in view.sliders]
    scene = linked_maps.scene(view.raster)
    # HoloViews refuses the gap after the last outline.
    outlines = {axis: points[:-1] for axis, points in scene.land.data.items()}
    background = hv.Polygons([outlines]).opts(color=LAND, line_color=None)
    land = hv.Image((view.raster.x, view.raster.y, scene.mask.data["image"][0]))
    land.opts(cmap=["#00000000", LAND], clim=(0, 1))
    coast = hv.Path([scene.coast.data]).opts(color=COAST, line_width=1)

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
    return plots[0] if len(plots) == 1 else hv.Layout(plots).cols(1)


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
        self.shape = _shape(first)
        arrays = {name: v for name, v in dataset.data_vars.items() if v.dims == first.dims}
        self.arrays = {name: v for name, v in arrays.items() if v.dtype.kind in "fiub"}
        self.raster = _raster(first, self.shape, ocean)
        self.slider_dims = [name for name in first.dims if name not in self.shape]
        self.series_dim = next((d for d in ("lead_time", "time") if d in self.slider_dims), None)
        self.series_dim = self.series_dim or (self.slider_dims[0] if self.slider_dims else None)
        self.values = {name: _slider_values(first, name) for name in self.slider_dims}
        self.sliders = [
            (name, LABELS.get(name, name), self.values[name]) for name in self.slider_dims
        ]
        if len(self.arrays) > 1:
            self.sliders.insert(0, ("variable", "Variable", list(self.arrays)))
        self.colour_range = colour_range
        self.styles = {}

    def select(self, key):
        """The variable and the positions on its other dimensions, from values of the sliders."""
        name, *key = key if len(self.arrays) > 1 else (next(iter(self.arrays)), *key)
        return name, {
            d: self.values[d].index(v) for d, v in zip(self.slider_dims, key, strict=True)
        }

    def frame(self, key):
        """Variable, title and values of the cells of one frame; only this frame is read."""
        name, positions = self.select(key)
        frame = self.arrays[name].isel(positions)
        titles = [_text(frame[d].values, d) for d in self.slider_dims if d in frame.coords]
        values = np.asarray(frame.transpose(*self.shape).values, "float32")
        if name not in self.styles:
            self.styles[name] = _style(self.arrays[name], values, self.colour_range)
        return name, ", ".join(titles), values

    def image(self, key):
        name, title, values = self.frame(key)
        style, raster = self.styles[name], self.raster
        picture = rasters.picture(raster, values, pixels=max(raster.source.shape))["image"][0]
        image = xr.DataArray(picture, {"y": raster.y, "x": raster.x}, ("y", "x"), name)
        return image.hvplot.image(
            x="x",
            y="y",
            cmap=style["colours"],
            clim=style["limits"],
            clabel=style["label"],
            title=f"{style['title']} {title}",
            xlabel="x (km)",
            ylabel="y (km)",
            frame_width=WIDTH,
            data_aspect=1,
            xlim=raster.extent[:2],
            ylim=raster.extent[2:],
        )

    def histogram(self, key):
        name, title, values = self.frame(key)
        style = self.styles[name]
        # The end bars hold the values beyond the colours, so that the axis is that of the colours.
        values = np.clip(values[np.isfinite(values)], *style["limits"])
        values = xr.DataArray(values, dims="cell", name=name)
        options = {"bins": BINS, "bin_range": style["limits"], "xlabel": style["label"]}
        return values.hvplot.hist(
            **options,
            ylabel="Cells",
            title=title,
            frame_width=WIDTH,
            frame_height=150,
            legend=False,
        )

    def series(self, key, x, y):
        """The cell at a position through time; the other sliders stay."""
        name, positions = self.select(key)
        column, row = abs(self.raster.x - x).argmin(), abs(self.raster.y - y).argmin()
        cell = self.raster.source[row, column]
        array = self.arrays[name].isel({d: k for d, k in positions.items() if d != self.series_dim})
        sizes = [array.sizes[d] for d in self.shape]
        index = dict(zip(self.shape, np.unravel_index(max(cell, 0), sizes), strict=True))
        values = np.asarray(array.isel(index).values, float)
        values = values if cell >= 0 else np.full_like(values, np.nan)
        axis = xr.DataArray(
            values, {self.series_dim: self.values[self.series_dim]}, [self.series_dim], name
        )
        if name not in self.styles:
            self.frame(key)
        options = {
            "xlabel": LABELS.get(self.series_dim, self.series_dim),
            "ylabel": self.styles[name]["label"],
        }
        title = f"Cell at x {x:.0f} km, y {y:.0f} km"
        return axis.hvplot.line(
            x=self.series_dim, title=title, frame_width=WIDTH, frame_height=150, **options
        )

    def centre(self):
        """Position of the cell of the grid that is nearest to the middle of the map."""
        rows, columns = np.nonzero(self.raster.source >= 0)
        middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        return float(self.raster.x[columns[middle]]), float(self.raster.y[rows[middle]])


def _shape(field):
    """The dimensions of the cells of a field, () if it has no positions."""
    if "latitude" in field.coords and set(field.latitude.dims) <= set(field.dims):
        return field.latitude.dims
    return ("y", "x") if {"y", "x"} <= set(field.dims) & set(field.coords) else ()


def _raster(field, shape, ocean):
    """How the cells of a field are shown; without a mask all of them are sea."""
    if len(shape) == 1:
        return rasters.raster_of_points(field.latitude.values, field.longitude.values)
    frame = field.isel({name: 0 for name in field.dims if name not in shape})
    frame = frame.transpose(*shape).rename(dict(zip(shape, ("y", "x"), strict=True)))
    if ocean is None:
        return rasters.raster_of(frame, xr.ones_like(frame, bool).compute())
    ocean = ocean.transpose(*shape).rename(dict(zip(shape, ("y", "x"), strict=True)))
    return rasters.raster_of(frame, ocean.astype(bool))


def _slider_values(field, name):
    """What a slider offers: the values of a coordinate, or positions if some are equal."""
    if name not in field.coords:
        return list(range(field.sizes[name]))
    values = field[name].values
    if values.dtype.kind == "m":
        values = (values / np.timedelta64(1, "D")).round(ROUNDING)
    unique = len(set(values.tolist())) == len(values)
    return list(values) if unique else list(range(len(values)))


def _text(value, dimension):
    """A value of a coordinate in a title, such as "+5 days"."""
    if value.dtype.kind == "M":
        text = np.datetime_as_string(value, unit="m").replace("T", " ")
        return f"{'from ' if dimension == 'init_time' else ''}{text}"
    if value.dtype.kind == "m":
        return f"+{value / np.timedelta64(1, 'D'):g} days"
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
    colours = linked_maps.palette(variable.colour_map if variable else "viridis", limits)
    label = f"{title} ({units})"
    return {"colours": colours, "limits": tuple(map(float, limits)), "label": label, "title": title}
