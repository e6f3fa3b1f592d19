"""Files that the pages offer for download, made in memory."""

import io
import re
import tempfile
from pathlib import Path

import pandas as pd
import xarray as xr

from dashboards.readers import TRUTH
from seaice_lab import names
from seaice_lab.figures import maps
from seaice_lab.files import write_netcdf


def as_figure(fields, limits, difference_limit):
    """Draw truth, forecasts and their differences as a figure for print.

    Parameters
    ----------
    fields : dict of str to DataArray (lead_time, y, x)
        Fields of one lead time by title; the truth has the title `TRUTH`.
    limits : (float, float)
        Ends of the colours of values.
    difference_limit : float
        Half-width of the colours of differences.

    Returns
    -------
    io.BytesIO
        A PNG file, with the position at its end.
    """
    import matplotlib.pyplot as plt

    forecasts = dict(fields)
    truth = forecasts.pop(TRUTH)
    leads = [pd.Timedelta(truth.lead_time.values[0])]
    figure = maps.field_panels(
        truth, forecasts, leads, truth.ocean, colour_range=limits, difference_limit=difference_limit
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200)
    plt.close(figure)
    return file


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


def as_netcdf(dataset):
    """A dataset as a CF NetCDF file in an io.BytesIO."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fields.nc"
        write_netcdf(file, dataset)
        return io.BytesIO(file.read_bytes())
