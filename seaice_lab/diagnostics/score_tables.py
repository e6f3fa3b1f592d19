"""Tables of scores: by start and lead time, pooled over all starts or by month."""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics import scores
from seaice_lab.errors import InputError
from seaice_lab.names import ICE_THRESHOLDS

# Long name, unit (None: that of the field), CF cell methods over the area.
SCORES = {
    "rmse": ("Root-mean-square error", None, "area: root_mean_square where sea"),
    "bias": ("Mean error (forecast minus truth)", None, "area: mean where sea"),
    "mean_absolute_error": ("Mean absolute error", None, "area: mean_absolute_value where sea"),
    "correlation": ("Spatial correlation", "1", None),
    "anomaly_correlation": ("Anomaly correlation", "1", None),
    "crps": ("Continuous ranked probability score", None, "area: mean where sea"),
    "spread": ("Spread of the ensemble", None, "area: root_mean_square where sea"),
    "rank_histogram": ("Share of the ocean by members below the truth", "1", None),
    "volume_error": ("Error of the ice volume", "m3", "area: sum where sea"),
    "extent_error": ("Error of the ice extent", "m2", "area: sum where sea"),
    "edge_error": ("Ice-edge error", "m2", "area: sum where sea"),
    "edge_error_over": ("Ice-edge error, ice in the forecast alone", "m2", "area: sum where sea"),
    "edge_error_under": ("Ice-edge error, ice in the truth alone", "m2", "area: sum where sea"),
}
SQUARED = ("rmse", "spread")  # pooled over starts as the root of the mean square
TABLE_DAYS = (0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 60, 90, 180, 270, 365)
START = {"standard_name": "forecast_reference_time", "long_name": "Start of the forecast"}


def scores_by_start(forecast, truth, ocean, area=None, climatology=None):
    """Scores of each start: what `pool_starts` pools, and what confidence intervals need.

    Tables of different starts may be joined with ``xarray.concat(..., dim="init_time")``, so that
    a long series can be scored in blocks.

    Parameters
    ----------
    forecast, truth : DataArray (init_time, lead_time, y, x)
        With equal ``units`` attributes and coordinates; ``lead_time`` is a timedelta64.
    ocean : DataArray of bool (y, x)
        True where sea.
    area : DataArray (y, x), optional
        Cell area, m2, as weights.
    climatology : DataArray (init_time, lead_time, y, x), optional
        Climatology of each valid time; adds the anomaly correlation.

    Returns
    -------
    Dataset
        ``rmse``, ``bias``, ``mean_absolute_error`` and ``correlation``, each (init_time,
        lead_time); ``anomaly_correlation`` if there is a climatology. With cell areas, thickness
        also has ``volume_error``, and thickness and concentration have ``extent_error``,
        ``edge_error`` and its parts ``edge_error_over`` and ``edge_error_under``.

    Raises
    ------
    InputError
        If units, dimensions, coordinates or grids are different.
    """
    if not {"init_time", "lead_time"} <= set(forecast.dims):
        raise InputError(
            f"the forecast has dimensions {forecast.dims}, expected init_time and lead_time among "
            "them; give a single forecast an init_time with expand_dims('init_time')"
        )
    units = common_units(forecast, truth)
    quantity = truth.attrs.get("standard_name")
    has_edge = area is not None and quantity in ICE_THRESHOLDS
    formulas = scores.FORMULAS | (scores.edge_formulas(forecast, truth) if has_edge else {})
    values = dict(scores.scores_of_frames(formulas, (forecast, truth), ocean, area))
    if climatology is not None:
        values["anomaly_correlation"] = scores.anomaly_correlation(
            forecast, truth, climatology, ocean, area
        )
    ocean_area = None if area is None else area.where(ocean, 0.0).sum()
    if area is not None and quantity == "sea_ice_thickness":
        values["volume_error"] = values["bias"] * ocean_area
    if has_edge:
        over, under = (values.pop(name) * ocean_area for name in ("over", "under"))
        values |= {"edge_error_over": over, "edge_error_under": under}
        values |= {"edge_error": over + under, "extent_error": over - under}
    table = describe_scores(values, units)
    table["lead_time"].attrs = {"standard_name": "forecast_period", "long_name": "Lead time"}
    table["init_time"].attrs = dict(START)
    table.attrs["weights"] = "equal for all ocean cells" if area is None else "cell area"
    return table


def common_units(forecast, truth):
    """The unit that forecast and truth have in common.

    Parameters
    ----------
    forecast, truth : DataArray
        With the attribute ``units``.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the units are different or missing.
    """
    forecast_units, truth_units = forecast.attrs.get("units"), truth.attrs.get("units")
    if forecast_units is None or forecast_units != truth_units:
        raise InputError(
            f"the forecast has units {forecast_units!r} and the truth {truth_units!r}, expected "
            "the same unit for both; convert the values and set the units attribute"
        )
    return forecast_units


def describe_scores(values_by_name, units):
    """Scores as a table with names, units and CF cell methods.

    Parameters
    ----------
    values_by_name : dict of str to DataArray
        Scores by name, see ``SCORES``.
    units : str
        Unit of the field.

    Returns
    -------
    Dataset
    """
    described = {}
    for name, values in values_by_name.items():
        long_name, unit, cell_methods = SCORES[name]
        attrs = {"long_name": long_name, "units": unit or units}
        # The standard_name of the field does not name its score.
        values = values.drop_attrs(deep=False).assign_attrs(attrs)
        described[name] = values.assign_attrs(cell_methods=cell_methods) if cell_methods else values
    return xr.Dataset(described)


def pool_starts(by_start):
    """Mean of the scores over starts, together with the scores of each start.

    The mean pools the errors: RMSE is the root of the mean over starts of the squared RMSE, so it
    is the error of all starts and cells together. The other scores are plain means.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`; may have more dimensions, such as ``source`` or ``region``. With the
        variable ``verified`` (init_time, lead_time), starts where it is false do not count.

    Returns
    -------
    Dataset
        Each score (lead_time) and, as ``<score>_by_start``, (init_time, lead_time). With
        ``verified`` also ``start_count`` (lead_time), the number of starts that count.
    """
    table = by_start.rename({name: f"{name}_by_start" for name in by_start.data_vars})
    verified = by_start.get("verified")
    if verified is not None:
        table["start_count"] = verified.sum("init_time").assign_attrs(
            long_name="Number of starts with truth", units="1"
        )
    for name, values in by_start.drop_vars("verified", errors="ignore").data_vars.items():
        attrs = dict(values.attrs)
        if "cell_methods" in attrs:
            over_starts = "root_mean_square" if name in SQUARED else "mean"
            attrs["cell_methods"] += f" init_time: {over_starts}"
        table[name] = _mean_over_starts(values, verified).assign_attrs(attrs)
    return table


def pool_by_month(by_start):
    """Mean of the scores over the starts of each month, pooled as in `pool_starts`.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`.

    Returns
    -------
    Dataset
        Each score (month, lead_time), with months from 1 to 12.
    """

    def pool(starts):
        verified = starts.get("verified")
        return starts.drop_vars("verified", errors="ignore").map(
            _mean_over_starts, args=(verified,)
        )

    return by_start.groupby("init_time.month").map(pool)


def table_leads(lead_time):
    """Positions of the lead times that a table shows.

    Parameters
    ----------
    lead_time : array of timedelta64 (lead_time)

    Returns
    -------
    ndarray of int
        All of up to seven lead times. Of more, those of `TABLE_DAYS` that exist and the last one;
        twelve, evenly distributed, if fewer than three of `TABLE_DAYS` exist.
    """
    days = np.asarray(lead_time) / np.timedelta64(1, "D")
    if len(days) <= 7:
        return np.arange(len(days))
    positions = np.flatnonzero(np.isclose(days[:, None], TABLE_DAYS, atol=1e-3).any(1))
    if len(positions) < 3:
        positions = np.linspace(0, len(days) - 1, min(len(days), 12)).round().astype(int)
    return np.unique([*positions, len(days) - 1])


def _mean_over_starts(values, verified=None):
    power = 2 if values.name in SQUARED else 1
    if verified is None:
        return (values**power).mean("init_time", skipna=False) ** (1 / power)
    total = (values**power).where(verified, 0.0).sum("init_time", skipna=False)
    count = verified.sum("init_time")
    return (total / count.where(count > 0)) ** (1 / power)
