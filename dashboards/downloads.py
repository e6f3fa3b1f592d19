"""Files that the pages offer for download, made in memory."""

import io
import re
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image, ImageColor, ImageDraw, ImageFont, TiffImagePlugin

from dashboards import layout
from dashboards.selection import DAY, long_name, time_text
from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import maps, rasters
from seaice_lab.figures.plane import LAND, grid_on_plane
from seaice_lab.files import write_netcdf
from seaice_lab.grid import PLANES

# Coordinates of the fields that are downloaded.
COORDINATES = {"init_time", "lead_time", "y", "x", "latitude", "longitude", "ocean"}
GIF = {"duration": 250, "loop": 0}  # ms of a frame; 0 repeats for ever
TITLE_PIXELS = 28
PANEL_INCHES = 4.2  # width and height of a map


class Downloads:
    """The buttons of the forecasts page.

    Parameters
    ----------
    view : dashboards.forecasts.ForecastView
    """

    def __init__(self, view):
        self.view = view
        self.png = layout.download_button("Figure (PNG)", "forecast.png", self.write_png)
        self.gif = layout.download_button("Animation (GIF)", "forecast.gif", self.write_gif)
        self.netcdf = layout.download_button("Fields (NetCDF)", "forecast.nc", self.write_netcdf)
        self.tiff = layout.download_button("Fields (GeoTIFF)", "forecast.tif", self.write_geotiff)
        self.buttons = (self.png, self.gif, self.netcdf, self.tiff)

    def disable(self, is_disabled):
        """Switch all buttons off or on."""
        if self.png.disabled != is_disabled:  # an update without a change costs as much
            for button in self.buttons:
                button.disabled = is_disabled

    def file_stem(self):
        """Name of a file with what is shown at all lead times, without its suffix."""
        state = self.view.state
        stem = f"{'_'.join(state.runs)}_{state.variable}_{state.start}"
        return stem.replace("/", "-").replace(":", "").replace(" ", "T")

    def template(self, leads):
        """The forecast of the first run at some lead times, whose coordinates all fields have."""
        variable, start, _ = self.view.selection()
        template = self.view.forecast().dataset[variable].sel(init_time=start, lead_time=leads)
        template = template.isel(member=0, missing_dims="ignore")
        template = template.drop_vars(set(template.coords) - COORDINATES)
        return template.assign_attrs(names.attributes(variable))

    def fields(self):
        """The fields of the maps as DataArrays (lead_time, y, x) by title."""
        template = self.template([self.view.selection()[2]])
        return {title: template.copy(data=field[None]) for title, field in self.view.values.items()}

    def write_png(self):
        """The maps as they are on the page, as a figure for print."""
        view = self.view
        self.png.filename = f"{self.file_stem()}_+{view.state.lead:g}h.png"
        variable, start, lead = view.selection()
        template = self.template([lead]).isel(lead_time=0)
        panels = {}
        for key, (title, scale) in view.shown.items():
            if view.fields.get(key) is not None:
                panels[title] = (template.copy(data=view.fields[key]), scale)
        times = f"start {time_text(start)} UTC, +{lead / DAY:g} days"
        valid = f"valid {time_text(start + lead)} UTC"
        title = f"{long_name(variable)}: {times}, {valid}"
        source = view.forecast().dataset.attrs.get("store", "")
        note = f"Runs: {', '.join(view.state.runs)}. Truth: {Path(source).name}"
        columns = 3 if len(view.sources) == 2 else len(view.sources)
        return as_figure(panels, columns, title, note)

    def write_gif(self):
        """Truth and forecasts through all lead times, side by side."""
        view = self.view
        self.gif.filename = f"{self.file_stem()}.gif"
        variable, start, _ = view.selection()
        frames = []
        for lead in view.times.leads.values():
            pictures = []
            for title in view.sources:
                try:
                    values = view.frame(title, start, lead)
                except InputError:
                    values = np.full(view.maps.raster.source.max() + 1, np.nan)
                pictures.append(coloured(view.maps.raster, values, view.colours.value))
            text = f"{long_name(variable)}: {', '.join(view.sources)}; +{lead / DAY:g} days"
            frames.append(titled(pictures, f"{text}, valid {time_text(start + lead)} UTC"))
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], **GIF)
        file.seek(0)
        return file

    def write_netcdf(self):
        """The fields as CF NetCDF."""
        self.netcdf.filename = f"{self.file_stem()}_+{self.view.state.lead:g}h.nc"
        return as_fields(self.fields())

    def write_geotiff(self):
        """The fields as GeoTIFF in the plane of the hemisphere."""
        self.tiff.filename = f"{self.file_stem()}_+{self.view.state.lead:g}h.tif"
        return as_geotiff(self.view.maps.raster, self.view.values)


def as_figure(panels, columns, title, note):
    """Draw maps in rows and columns as a figure for print.

    Parameters
    ----------
    panels : dict of str to (DataArray (y, x), bokeh.models.LinearColorMapper)
        Fields with coordinate ``ocean``, and their colours, by title.
    columns : int
    title, note : str
        Text above and below the maps.

    Returns
    -------
    io.BytesIO
        A PNG file, with the position at its end.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    first = next(iter(panels.values()))[0]
    map_grid = grid_on_plane(first, first.ocean)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PANEL_INCHES * columns, PANEL_INCHES * rows + 0.9),
        squeeze=False,
        layout="constrained",
        subplot_kw={"projection": maps.map_projection(first)},
    )
    # The truth has no second map: the second row begins below the first forecast.
    places = list(axes.flat)
    blank = places[columns:] if rows > 1 else places[len(panels) :]
    used = places[:columns] + places[columns + 1 :] if rows > 1 else places
    for ax in blank:
        ax.set_visible(False)
    for ax, (name, (field, scale)) in zip(used, panels.items(), strict=False):
        ax.set_visible(True)
        limits = (scale.low, scale.high)
        drawn = maps.draw(ax, map_grid, field, ListedColormap(scale.palette), limits)
        ax.set_title(name, fontsize=10)
        shown = maps.visible_values(map_grid, field).filled(np.nan)
        extend = maps.exceeded_ends([shown], limits)
        figure.colorbar(drawn, ax=ax, shrink=0.75, pad=0.02, extend=extend)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    plt.close(figure)
    return file


def coloured(raster, values, scale):
    """A field as an image of red, green and blue, north upwards.

    Parameters
    ----------
    raster : seaice_lab.figures.rasters.Raster
    values : ndarray
        One value for each cell of the grid.
    scale : bokeh.models.LinearColorMapper

    Returns
    -------
    ndarray of uint8 (row, column, 3)
    """
    image = rasters.picture(raster, np.asarray(values))["image"][0][::-1]
    shades = np.array([ImageColor.getrgb(shade) for shade in (*scale.palette, LAND)], "uint8")
    count = len(shades) - 1
    position = count * (image - scale.low) / (scale.high - scale.low)
    position = np.clip(np.nan_to_num(position), 0, count - 1).astype(int)
    return np.repeat(np.repeat(shades[np.where(np.isnan(image), count, position)], 2, 0), 2, 1)


def titled(pictures, title):
    """Put images side by side below a title.

    Parameters
    ----------
    pictures : list of ndarray
        From :func:`coloured`.
    title : str

    Returns
    -------
    PIL.Image.Image
    """
    gap = np.full((len(pictures[0]), 8, 3), 255, "uint8")
    row = np.concatenate([part for picture in pictures for part in (picture, gap)], axis=1)
    image = Image.new("RGB", (row.shape[1], row.shape[0] + TITLE_PIXELS), "white")
    image.paste(Image.fromarray(row), (0, TITLE_PIXELS))
    ImageDraw.Draw(image).text((6, 6), title, "black", ImageFont.load_default(14))
    return image


def as_fields(fields):
    """Write fields into one NetCDF file.

    Parameters
    ----------
    fields : dict of str to DataArray
        Fields by title.

    Returns
    -------
    io.BytesIO
    """
    dataset = xr.Dataset()
    for title, field in fields.items():
        name = f"{field.name}_{re.sub(r'[^0-9A-Za-z]', '_', title)}"
        while name in dataset:  # the runs "a/b" and "a_b" have the same name here
            name += "_"
        dataset[name] = field.assign_attrs(long_name=title)
    dataset.attrs = {"Conventions": names.CONVENTIONS, "title": "Forecasts and truth"}
    return as_netcdf(dataset)


def as_geotiff(raster, fields):
    """Write fields into one GeoTIFF file.

    Parameters
    ----------
    raster : seaice_lab.figures.rasters.Raster
        If the grid does not follow the plane, each pixel has the value of the nearest cell.
    fields : dict of str to ndarray
        One value for each cell of the grid, by title.

    Returns
    -------
    io.BytesIO
        One page for each field, float32, NaN on land and outside the grid.
    """
    width, height = (1e3 * float(axis[1] - axis[0]) for axis in (raster.x, raster.y))
    west, north = 1e3 * raster.x[0] - width / 2, 1e3 * raster.y[-1] + height / 2
    # Tags and keys of OGC GeoTIFF 1.1: pixel size, position of the upper left corner, and keys as
    # (key, 0, 1, value): projected coordinates, values of areas, EPSG code, metres.
    keys = [
        (1024, 1),
        (1025, 1),
        (3072, int(PLANES[raster.hemisphere].removeprefix("EPSG:"))),
        (3076, 9001),
    ]
    tags = {
        33550: (TiffImagePlugin.TiffTags.DOUBLE, (width, height, 0.0)),
        33922: (TiffImagePlugin.TiffTags.DOUBLE, (0.0, 0.0, 0.0, west, north, 0.0)),
        34735: (
            TiffImagePlugin.TiffTags.SHORT,
            (1, 1, 0, len(keys), *(n for key, value in keys for n in (key, 0, 1, value))),
        ),
        42113: (TiffImagePlugin.TiffTags.ASCII, "nan"),  # GDAL: the value of missing pixels
    }
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, new=True) as pages:
        for title, values in fields.items():
            information = TiffImagePlugin.ImageFileDirectory_v2()
            for tag, (kind, value) in tags.items():
                information.tagtype[tag] = kind
                information[tag] = value
            information[270] = title  # description of the page
            image = rasters.picture(raster, np.asarray(values), pixels=max(raster.source.shape))
            picture = Image.fromarray(np.ascontiguousarray(image["image"][0][::-1]))
            picture.save(pages, "TIFF", tiffinfo=information)
            pages.newFrame()
    file.seek(0)
    return file


def as_netcdf(dataset):
    """A dataset as a CF NetCDF file in an io.BytesIO."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fields.nc"
        write_netcdf(file, dataset)
        return io.BytesIO(file.read_bytes())
