"""Tables of scores by start and lead time, pooled, by month and region, with confidence."""

import xarray as xr

from seaice_lab.diagnostics.scores import (
    EDGE,
    anomaly_correlation,
    bias,
    common_units,
    correlation,
    field_error,
    ice_edge_error,
    mean_absolute_error,
    rmse,
    volume,
)
from seaice_lab.errors import InputError


def score_table(forecast, truth, ocean, area=None, climatology=None):
    """Scores of a forecast against lead time.

    Parameters
    ----------
    forecast, truth : DataArray (init_time, lead_time, y, x)
        With equal ``units`` attributes and coordinates; ``lead_time`` is a timedelta64.
    ocean : DataArray of bool (y, x)
        True where sea.
    area : DataArray (y, x), optional
        Cell area, m2, as weights.
    climatology : DataArray (init_time, lead_time, y, x), optional
        Of each valid time; adds the anomaly correlation.

    Returns
    -------
    Dataset
        See `pool_starts`.

    Raises
    ------
    InputError
        If units, dimensions, coordinates or mask do not fit.
    """
    return pool_starts(scores_by_start(forecast, truth, ocean, area, climatology))


def scores_by_start(forecast, truth, ocean, area=None, climatology=None):
    """The scores of every single start: what `score_table` pools, and what significance needs.

    Parameters and errors as in `score_table`. Tables of different starts may be joined with
    ``xarray.concat(..., dim="init_time")``, so that long series are scored piece by piece.

    Returns
    -------
    Dataset
        (init_time, lead_time) each: ``rmse``, ``bias``, ``mean_absolute_error``,
        ``correlation``, with a climatology ``anomaly_correlation``; for thickness
        ``volume_error``; for thickness and concentration with cell areas ``extent_error``,
        ``edge_error`` and its parts ``edge_error_over``, ``edge_error_under``.
    """
    if not {"init_time", "lead_time"} <= set(forecast.dims):
        raise InputError(
            f"the forecast has dimensions {forecast.dims}, expected init_time and lead_time among "
            "them; give a single forecast an init_time with expand_dims('init_time')"
        )
    units = common_units(forecast, truth)
    pair, weights = (forecast, truth), (ocean, area)
    kind = truth.attrs.get("standard_name")
    found = {
        "rmse": rmse(*pair, *weights),
        "bias": bias(*pair, *weights),
        "mean_absolute_error": mean_absolute_error(*pair, *weights),
        "correlation": correlation(*pair, *weights),
    }
    if climatology is not None:
        found["anomaly_correlation"] = anomaly_correlation(*pair, climatology, *weights)
    if area is not None and kind == "sea_ice_thickness":
        found["volume_error"] = volume(field_error(*pair, *weights), ocean, area)
    if area is not None and kind in EDGE:
        found["edge_error_over"], found["edge_error_under"] = ice_edge_error(*pair, *weights)
        found["edge_error"] = found["edge_error_over"] + found["edge_error_under"]
        found["extent_error"] = found["edge_error_over"] - found["edge_error_under"]
    table = xr.Dataset()
    for name, values in found.items():
        long_name, unit, methods = SCORES[name]
        # the field's own standard_name does not name a score of it
        values = values.drop_attrs(deep=False)
        table[name] = values.assign_attrs(long_name=long_name, units=unit or units)
        if methods:
            table[name].attrs["cell_methods"] = methods
    table["lead_time"].attrs = {"standard_name": "forecast_period", "long_name": "Lead time"}
    table["init_time"].attrs = {
        "standard_name": "forecast_reference_time",
        "long_name": "Start of the forecast",
    }
    table.attrs["weights"] = "equal for all ocean cells" if area is None else "cell area"
    return table


SQUARED = ("rmse", "spread")  # pooled as the root of the mean square

# Long name, unit (None: that of the field), CF cell methods over the area.
SCORES = {
    "rmse": ("Root-mean-square error", None, "area: root_mean_square where sea"),
    "bias": ("Mean error (forecast minus truth)", None, "area: mean where sea"),
    "mean_absolute_error": ("Mean absolute error", None, "area: mean_absolute_value where sea"),
    "correlation": ("Spatial correlation", "1", None),
    "anomaly_correlation": ("Anomaly correlation", "1", None),
    "crps": ("Continuous ranked probability score", None, "area: mean where sea"),
    "spread": ("Spread of the ensemble", None, "area: root_mean_square where sea"),
    "volume_error": ("Error of the ice volume", "m3", "area: sum where sea"),
    "extent_error": ("Error of the ice extent", "m2", "area: sum where sea"),
    "edge_error": ("Ice-edge error", "m2", "area: sum where sea"),
    "edge_error_over": ("Ice-edge error, ice in the forecast alone", "m2", "area: sum where sea"),
    "edge_error_under": ("Ice-edge error, ice in the truth alone", "m2", "area: sum where sea"),
}


def pool_starts(by_start):
    """Mean of the scores over starts, beside those of the single starts.

    The mean pools the errors: RMSE is the root of the mean over starts of the squared RMSE (so it
    is the error of all starts and cells together), the others plain means.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`; may have more dimensions, as a ``source`` or a region.

    Returns
    -------
    Dataset
        Each score (lead_time) and, as ``<score>_by_start``, (init_time, lead_time).
    """
    table = by_start.rename({name: f"{name}_by_start" for name in by_start.data_vars})
    for name, values in by_start.data_vars.items():
        attrs = dict(values.attrs)
        if "cell_methods" in attrs:
            over_starts = "root_mean_square" if name in SQUARED else "mean"
            attrs["cell_methods"] += f" init_time: {over_starts}"
        table[name] = _pooled(name, values).assign_attrs(attrs)
    return table


def pool_by_month(by_start):
    """Mean of the scores over the starts of each month, as `pool_starts` does over all.

    Returns
    -------
    Dataset
        Each score (month, lead_time), months counted from 1.
    """
    pooled = {
        month: part.map(lambda values: _pooled(values.name, values))
        for month, part in by_start.groupby("init_time.month")
    }
    return xr.concat(pooled.values(), xr.Variable("month", list(pooled)))


def _pooled(name, values):
    power = 2 if name in SQUARED else 1
    return (values**power).mean("init_time", skipna=False) ** (1 / power)
