"""Fields of the forecasts page as files."""

import io
import re

import pandas as pd
import xarray as xr

from dashboards.choice import TRUTH
from dashboards.products import as_netcdf
from seaice_lab import names
from seaice_lab.figures import maps


def as_figure(fields, limits, widest):
    """Truth, forecasts and their differences as a figure for print (PNG).

    Parameters
    ----------
    fields : dict of str to DataArray (lead_time, y, x)
        By title, of one lead time.
    limits : (float, float)
        Ends of the colours of values.
    widest : float
        Half-width of the colours of differences.

    Returns
    -------
    io.BytesIO
    """
    import matplotlib.pyplot as plt

    fields = dict(fields)
    truth = fields.pop(TRUTH)
    lead = pd.Timedelta(truth.lead_time.values[0])
    figure = maps.field_panels(
        truth, fields, [lead], truth.ocean, colour_range=limits, widest=widest
    )
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=200)
    plt.close(figure)
    target.seek(0)
    return target


def as_fields(fields):
    """Fields by title as CF NetCDF, in an io.BytesIO."""
    made = xr.Dataset()
    for title, field in fields.items():
        name = f"{field.name}_{re.sub(r'[^0-9A-Za-z]', '_', title)}"
        while name in made:  # runs "a/b" and "a_b"
            name += "_"
        made[name] = field.assign_attrs(long_name=title)
    made.attrs = {"Conventions": names.CONVENTIONS, "title": "Forecasts and truth"}
    return as_netcdf(made)
