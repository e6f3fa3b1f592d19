"""How far is a forecast from the truth? Scores over the ocean, lead time by lead time.

All functions take labelled arrays with dimensions ``y`` and ``x`` and any leading ones (a forecast
has ``init_time, lead_time``), stay lazy when the arrays are lazy, and average over ocean cells
only: values on land never count, even when they are NaN. A NaN in an ocean cell makes the score
of that start and lead NaN, because leaving the cell out would quietly score an easier forecast.
"""

import xarray as xr

from seaice_lab.errors import InputError

GRID = ("y", "x")
# CF cell methods: what was done over the area, in the vocabulary of CF area types.
OVER_OCEAN = {"rmse": "area: root_mean_square where sea", "bias": "area: mean where sea"}
OVER_STARTS = {"rmse": "init_time: root_mean_square", "bias": "init_time: mean"}
LONG_NAMES = {
    "rmse": "Root-mean-square error of the {who}",
    "bias": "Mean error of the {who} (forecast minus truth)",
}


def rmse(forecast, truth, ocean, area=None, land_counts_as_zero=False):
    """Root-mean-square error over the ocean, sqrt(<(forecast - truth)^2>).

    Parameters
    ----------
    forecast, truth : DataArray (..., y, x)
        Same unit, same dimensions, equal coordinates.
    ocean : DataArray of bool (y, x)
        True where sea.
    area : DataArray (y, x), optional
        Cell area, any unit, as weights of the mean; every cell counts alike without it.
    land_counts_as_zero : bool
        The published rule: the mean runs over all cells, land contributing zero error. Only to
        compare with published numbers, which are smaller by sqrt(N_ocean / N_all).

    Returns
    -------
    DataArray (...), float64
        In the unit of the field.

    Raises
    ------
    InputError
        If the arrays do not lie on the same grid and times, or the mask is not one.

    Notes
    -----
    Durand et al. (2024), doi:10.5194/tc-18-1791-2024, for the published rule.
    """
    error = _error(forecast, truth, ocean, area)
    return _ocean_mean(error**2, ocean, area, land_counts_as_zero) ** 0.5


def bias(forecast, truth, ocean, area=None, land_counts_as_zero=False):
    """Mean error over the ocean, <forecast - truth>; positive where the forecast is too large.

    Parameters, returns and errors as in `rmse`; the published rule shrinks it by N_ocean / N_all.
    """
    error = _error(forecast, truth, ocean, area)
    return _ocean_mean(error, ocean, area, land_counts_as_zero)


def score_table(forecast, truth, ocean, area=None, reference=None):
    """RMSE and bias of a forecast, and of a reference forecast, against lead time.

    Parameters
    ----------
    forecast, truth : DataArray (init_time, lead_time, y, x)
        With equal ``units`` attributes and coordinates; ``lead_time`` is a timedelta64.
    ocean : DataArray of bool (y, x)
        True where sea.
    area : DataArray (y, x), optional
        Cell area, any unit, as weights.
    reference : DataArray (init_time, lead_time, y, x), optional
        A simple forecast of the same thing, e.g. persistence.

    Returns
    -------
    Dataset
        See `pool_starts`.

    Raises
    ------
    InputError
        If units, dimensions, coordinates or mask do not fit.
    """
    return pool_starts(scores_by_start(forecast, truth, ocean, area, reference))


def scores_by_start(forecast, truth, ocean, area=None, reference=None):
    """The scores of every single start: what `score_table` pools, and what significance needs.

    Parameters and errors as in `score_table`. Tables of different starts may be joined with
    ``xarray.concat(..., dim="init_time")``, so that long series are scored piece by piece.

    Returns
    -------
    Dataset
        ``rmse_by_start``, ``bias_by_start`` (init_time, lead_time), and the same of the reference
        as ``rmse_reference_by_start``, ``bias_reference_by_start``.
    """
    if not {"init_time", "lead_time"} <= set(forecast.dims):
        raise InputError(
            f"the forecast has dimensions {forecast.dims}, expected init_time and lead_time among "
            "them; give a single forecast an init_time with expand_dims('init_time')"
        )
    compared = {"": forecast} if reference is None else {"": forecast, "_reference": reference}
    table = xr.Dataset()
    for suffix, candidate in compared.items():
        units = _common_units(candidate, truth)
        who = "reference forecast" if suffix else "forecast"
        for score, compute in (("rmse", rmse), ("bias", bias)):
            table[f"{score}{suffix}_by_start"] = compute(
                candidate, truth, ocean, area
            ).assign_attrs(
                long_name=LONG_NAMES[score].format(who=who),
                units=units,
                cell_methods=OVER_OCEAN[score],
            )
    table["lead_time"].attrs = {"standard_name": "forecast_period", "long_name": "Lead time"}
    table["init_time"].attrs = {
        "standard_name": "forecast_reference_time",
        "long_name": "Start of the forecast",
    }
    table.attrs["weights"] = "equal for all ocean cells" if area is None else "cell area"
    return table


def pool_starts(by_start):
    """Mean of the scores over starts, beside those of the single starts.

    The mean pools the errors: RMSE is the root of the mean over starts of the squared RMSE (so it
    is the error of all starts and cells together), bias the plain mean.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`.

    Returns
    -------
    Dataset
        ``rmse``, ``bias`` (lead_time) and the same ``_by_start`` (init_time, lead_time); with a
        reference also ``rmse_reference``, ``bias_reference``, theirs by start, and ``rmse_ratio``
        = rmse / rmse_reference (below 1: better than the reference; NaN where the reference is
        perfect, as persistence is at lead 0). CF attributes; units of the field.
    """
    table = by_start.copy()
    for name, values in by_start.data_vars.items():
        score = name.split("_")[0]
        power = 2 if score == "rmse" else 1
        pooled = (values**power).mean("init_time", skipna=False) ** (1 / power)
        attrs = values.attrs | {"cell_methods": f"{OVER_OCEAN[score]} {OVER_STARTS[score]}"}
        table[name.removesuffix("_by_start")] = pooled.assign_attrs(attrs)
    if "rmse_reference" in table:
        table["rmse_ratio"] = (table["rmse"] / table["rmse_reference"]).assign_attrs(
            long_name="RMSE of the forecast over RMSE of the reference forecast", units="1"
        )
    return table


def _error(forecast, truth, ocean, area):
    """Forecast minus truth in float64, after refusing what would broadcast or lose times."""
    if set(forecast.dims) != set(truth.dims) or not set(GRID) <= set(truth.dims):
        raise InputError(
            f"the forecast has dimensions {forecast.dims} and the truth {truth.dims}, expected "
            "the same ones, y and x among them; select the truth at init_time + lead_time"
        )
    if set(ocean.dims) != set(GRID) or ocean.dtype != bool or not bool(ocean.any()):
        raise InputError(
            f"ocean is a {ocean.dtype} array over {ocean.dims}, expected bool over ('y', 'x') "
            "with at least one True; make it with e.g. mask == 1, True where sea"
        )
    grids = [ocean] if area is None else [ocean, area]
    try:
        xr.align(forecast, truth, *grids, join="exact")
    except ValueError as error:
        raise InputError(
            "forecast, truth, ocean and area must share their coordinates, but "
            f"{str(error).splitlines()[0]}; select the same times and cells before scoring"
        ) from error
    # The field's attributes (its standard_name above all) do not describe an error of it.
    return (forecast.astype("float64") - truth.astype("float64")).drop_attrs(deep=False)


def _ocean_mean(values, ocean, area, land_counts_as_zero):
    weights = xr.ones_like(ocean, dtype="float64") if area is None else area.astype("float64")
    over_ocean = weights.where(ocean, 0.0)
    total = weights.sum() if land_counts_as_zero else over_ocean.sum()
    # Land is emptied before weighting: a NaN there times a zero weight would still be NaN.
    return xr.dot(values.where(ocean, 0.0), over_ocean, dim=GRID) / total


def _common_units(forecast, truth):
    units = forecast.attrs.get("units"), truth.attrs.get("units")
    if units[0] is None or units[0] != units[1]:
        raise InputError(
            f"the forecast has units {units[0]!r} and the truth {units[1]!r}, expected the same "
            "stated unit; convert the values and set the units attribute"
        )
    return units[0]
