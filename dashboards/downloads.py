"""Files that the pages offer for download, made in memory."""

import io
import re
import tempfile
from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap, Normalize
from PIL import Image, ImageDraw, ImageFont
from PIL.TiffImagePlugin import AppendingTiffWriter

from dashboards import layout
from dashboards.selection import DAY, long_name, time_text
from seaice_lab import __version__, names
from seaice_lab.errors import InputError
from seaice_lab.figures import maps, rasters
from seaice_lab.figures.plane import LAND, grid_on_plane
from seaice_lab.files import write_netcdf
from seaice_lab.grid import PLANES
from seaice_lab.metadata import file_attributes

# Coordinates of the fields that are downloaded.
COORDINATES = {"init_time", "lead_time", "y", "x", "latitude", "longitude", "ocean"}
GIF = {"duration": 250, "loop": 0}  # ms of a frame; 0 repeats for ever
TITLE_PIXELS, GAP_PIXELS = 46, 8  # above the pictures of an animation, and between them
BAR_PIXELS = 100  # of its colour bar
PANEL_INCHES = 4.2  # width and height of a map


class Downloads:
    """The buttons of the forecasts page.

    Parameters
    ----------
    view : dashboards.forecasts.ForecastView
    """

    def __init__(self, view):
        self.view = view
        self.buttons = [
            self.button("Figure (PNG)", "png", self.write_png),
            self.button("Animation (GIF)", "gif", self.write_gif),
            self.button("Fields (NetCDF)", "nc", self.write_netcdf),
            self.button("Fields (GeoTIFF)", "tif", self.write_geotiff),
        ]

    def button(self, label, suffix, write):
        """A button whose file is named after what is shown.

        Parameters
        ----------
        label, suffix : str
        write : callable
            Returns the file as `io.BytesIO`.

        Returns
        -------
        panel.widgets.FileDownload
        """

        def named_file():
            """Name the file, and make it."""
            self.view.opened.clear()  # a forecast may have been replaced since the last change
            state = self.view.state
            lead = "" if suffix == "gif" else f"_+{state.lead:g}h"  # an animation has all of them
            name = f"{'_'.join(state.runs)}_{state.variable}_{state.start}{lead}.{suffix}"
            button.filename = name.replace("/", "-").replace(":", "").replace(" ", "T")
            return write()

        button = layout.download_button(label, f"forecast.{suffix}", named_file)
        return button

    def disable(self, is_disabled):
        """Switch all buttons off or on."""
        for button in self.buttons:
            if button.disabled != is_disabled:  # an update without a change costs as much
                button.disabled = is_disabled

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
        variable, start, lead = view.selection()
        template = self.template([lead]).isel(lead_time=0)
        panels = {
            title: (template.copy(data=view.fields[key]), scale)
            for key, (title, scale) in view.shown.items()
            if view.fields.get(key) is not None
        }
        times = f"start {time_text(start)} UTC, +{names.in_days(lead / DAY)}"
        name = f"{long_name(variable)} ({names.variable(variable).units})"
        title = f"{name}: {times}, valid {time_text(start + lead)} UTC"
        source = view.forecast().dataset.attrs.get("store", "")
        note = f"Runs: {', '.join(view.state.runs)}. Truth: {Path(source).name}"
        columns = 3 if len(view.sources) == 2 else len(view.sources)
        return as_figure(panels, columns, title, note)

    def write_gif(self):
        """Truth and forecasts through all lead times, side by side."""
        view = self.view
        variable, start, _ = view.selection()
        frames = []
        for lead in view.times.leads.values():
            pictures = []
            for title in view.sources:
                try:
                    values = view.frame(title, start, lead)
                except InputError:
                    values = np.full(view.maps.raster.source.max() + 1, np.nan)
                pictures.append(rasters.picture(view.maps.raster, values)["image"][0])
            text = f"{long_name(variable)}: {', '.join(view.sources)}\n+{names.in_days(lead / DAY)}"
            text = f"{text}, valid {time_text(start + lead)} UTC"
            units = names.variable(variable).units
            frames.append(side_by_side(pictures, view.colours.value, text, units))
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], **GIF)
        file.seek(0)
        return file

    def write_netcdf(self):
        """The fields as CF NetCDF."""
        return as_fields(self.fields())

    def write_geotiff(self):
        """The fields as GeoTIFF in the plane of the hemisphere."""
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
    first = next(iter(panels.values()))[0]
    map_grid, projection = grid_on_plane(first, first.ocean), maps.map_projection(first)
    rows = -(-len(panels) // columns)
    size = (PANEL_INCHES * columns, PANEL_INCHES * rows + 0.9)
    figure = plt.figure(figsize=size, layout="constrained")
    for number, (name, (field, scale)) in enumerate(panels.items(), 1):
        # The truth has no second map: the second row begins below the first forecast.
        number += number > columns
        ax = figure.add_subplot(rows, columns, number, projection=projection)
        ax.set_title(name, fontsize=10)
        limits = (scale.low, scale.high)
        cells = maps.draw(ax, map_grid, field, ListedColormap(scale.palette), limits)
        shown = maps.visible_values(map_grid, field).filled(np.nan)
        extend = maps.exceeded_ends([shown], limits)
        figure.colorbar(cells, ax=ax, shrink=0.75, pad=0.02, extend=extend)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    plt.close(figure)
    return file


def side_by_side(pictures, scale, title, units):
    """Fields side by side below a title and their colours, as an image with the north upwards.

    Parameters
    ----------
    pictures : list of ndarray (row, column)
        From `seaice_lab.figures.rasters.picture`.
    scale : bokeh.models.LinearColorMapper
    title, units : str

    Returns
    -------
    PIL.Image.Image
    """
    colours = ListedColormap(scale.palette).with_extremes(bad=LAND)
    position = Normalize(scale.low, scale.high)
    images = []
    for picture in pictures:
        shades = colours(position(np.ma.masked_invalid(picture[::-1])), bytes=True)[..., :3]
        shades = shades.repeat(2, axis=0).repeat(2, axis=1)
        margins = (TITLE_PIXELS, 0), (0, GAP_PIXELS), (0, 0)
        images.append(np.pad(shades, margins, constant_values=255))
    image = Image.fromarray(np.concatenate(images, axis=1))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    draw.text((6, 4), title, "black", font)
    bar = colours(np.linspace(0, 1, BAR_PIXELS), bytes=True)[None, :, :3].repeat(10, axis=0)
    right = image.width - GAP_PIXELS
    ends = f"{scale.low:g}", f"{scale.high:g} {units}"
    left = right - BAR_PIXELS - draw.textlength(ends[1], font) - 6
    image.paste(Image.fromarray(bar), (int(left), 28))
    draw.text((left - 6, 24), ends[0], "black", font, anchor="ra")
    draw.text((right, 24), ends[1], "black", font, anchor="ra")
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
    source = f"seaice_lab {__version__}"
    dataset.attrs = file_attributes("Forecasts and truth", source, "dashboard")
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
    code = int(PLANES[raster.hemisphere].removeprefix("EPSG:"))
    keys = [(1024, 0, 1, 1), (1025, 0, 1, 1), (3072, 0, 1, code), (3076, 0, 1, 9001)]
    tags = {
        33550: (width, height, 0.0),
        33922: (0.0, 0.0, 0.0, west, north, 0.0),
        34735: (1, 1, 0, len(keys), *chain(*keys)),
        42113: "nan",  # GDAL: the value of missing pixels
    }
    file = io.BytesIO()
    with AppendingTiffWriter(file, new=True) as pages:
        for title, values in fields.items():
            image = rasters.picture(raster, np.asarray(values), pixels=max(raster.source.shape))
            picture = Image.fromarray(np.ascontiguousarray(image["image"][0][::-1]))
            picture.save(pages, "TIFF", tiffinfo=tags | {270: title})  # 270: description
            pages.newFrame()
    file.seek(0)
    return file


def as_netcdf(dataset):
    """A dataset as a CF NetCDF file in an io.BytesIO."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fields.nc"
        write_netcdf(file, dataset)
        return io.BytesIO(file.read_bytes())
