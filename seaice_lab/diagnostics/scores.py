"""How far is a forecast from the truth? Scores over the ocean, for each lead time.

All functions take labelled arrays with the dimensions ``y`` and ``x`` and any others (a forecast
has ``init_time, lead_time``), and stay lazy if the arrays are lazy. Averages run over ocean cells
only: values on land never count, even if they are NaN. A NaN in an ocean cell makes the score of
that start and lead time NaN, because without the cell the score would be that of an easier
forecast.

In the formulas below, <...> is the mean over the ocean, weighted by cell area if it is given. To
score a part of the ocean pass ``ocean & region``, see
:func:`seaice_lab.diagnostics.regions.polar_regions`.
"""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.frames import GRID, of_ocean_cells
from seaice_lab.errors import InputError
from seaice_lab.names import ICE_THRESHOLDS


def rmse(forecast, truth, ocean, area=None, land_counts_as_zero=False):
    """Root-mean-square error over the ocean, sqrt(<(forecast - truth)^2>).

    Parameters
    ----------
    forecast, truth : DataArray (..., y, x)
        With the same unit, the same dimensions and equal coordinates.
    ocean : DataArray of bool (y, x)
        True where sea.
    area : DataArray (y, x), optional
        Cell area, any unit, as weights of the mean. By default all cells have the same weight.
    land_counts_as_zero : bool
        Use the published rule: the mean runs over all cells, and the error on land is zero. Its
        numbers are smaller by sqrt(N_ocean / N_all); use it only to compare with published ones.

    Returns
    -------
    DataArray (...), float64
        In the unit of the field.

    Raises
    ------
    InputError
        If the arrays have different grids or times, or the mask is not a mask.

    Notes
    -----
    The published rule is that of Durand et al. (2024), doi:10.5194/tc-18-1791-2024.
    """
    return _score("rmse", forecast, truth, ocean, area, land_counts_as_zero)


def bias(forecast, truth, ocean, area=None, land_counts_as_zero=False):
    """Mean error over the ocean, <forecast - truth>; positive if the forecast is too large.

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`.
    land_counts_as_zero : bool
        Use the published rule, whose numbers are smaller by N_ocean / N_all.

    Returns
    -------
    DataArray (...), float64
        In the unit of the field.
    """
    return _score("bias", forecast, truth, ocean, area, land_counts_as_zero)


def mean_absolute_error(forecast, truth, ocean, area=None):
    """Mean absolute error over the ocean, <|forecast - truth|>.

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (...), float64
        In the unit of the field.
    """
    return _score("mean_absolute_error", forecast, truth, ocean, area)


def correlation(forecast, truth, ocean, area=None):
    """Spatial correlation over the ocean, <f' t'> / sqrt(<f'^2> <t'^2>) with f' = f - <f>.

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (...), float64
        NaN if one of the fields is uniform.
    """
    return _score("correlation", forecast, truth, ocean, area)


def anomaly_correlation(forecast, truth, climatology, ocean, area=None):
    """Correlation of the anomalies, <f' t'> / sqrt(<f'^2> <t'^2>) with f' = f - climatology.

    This is the uncentred form: an anomaly that is the same everywhere counts (Wilks 2019,
    Statistical Methods in the Atmospheric Sciences, section 9.8).

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`.
    climatology : DataArray (..., y, x)
        Climatology of each valid time, on the grid of the truth.

    Returns
    -------
    DataArray (...), float64
    """

    def formula(weights, f, t, mean):
        return _product_ratio(weights, f - mean, t - mean)

    fields = forecast, truth, climatology
    return scores_of_frames({"correlation": formula}, fields, ocean, area).correlation


def skill(score, reference):
    """Skill score, 1 - score / reference.

    Parameters
    ----------
    score, reference : DataArray
        The same error score (RMSE, mean absolute error, CRPS) of the forecast and of a reference
        forecast.

    Returns
    -------
    DataArray
        1 for a perfect forecast, 0 if it is as good as the reference, negative if it is worse; NaN
        if the reference is perfect.
    """
    return 1 - score / reference.where(reference > 0)


def volume(thickness, ocean, area):
    """Volume of the ice: sum of thickness times cell area over the ocean.

    Parameters
    ----------
    thickness : DataArray (..., y, x)
        Ice volume per cell area, m.
    ocean : DataArray of bool (y, x)
    area : DataArray (y, x)
        m2.

    Returns
    -------
    DataArray (...), m3
    """
    return xr.dot(thickness.where(ocean, 0.0), area.where(ocean, 0.0), dim=GRID)


def extent(field, ocean, area, threshold=None):
    """Extent of the ice: area of the cells in which the field is at least the threshold.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Concentration or thickness, recognised by its ``standard_name``.
    ocean, area
        As in `volume`.
    threshold : float, optional
        By default 0.15 for concentration and 0.1 m for thickness.

    Returns
    -------
    DataArray (...), m2

    Raises
    ------
    InputError
        If no threshold is given and the field is neither concentration nor thickness.
    """
    has_ice = (field >= _threshold(field, threshold)).astype("float64")
    # A missing value in the ocean makes the extent NaN.
    return volume(has_ice.where(field.notnull()), ocean, area)


def ice_edge_error(forecast, truth, ocean, area, threshold=None):
    """Integrated ice-edge error: the area where forecast and truth disagree whether there is ice.

    The sum of the two parts is the error, their difference is the error of the extent (Goessling
    et al. 2016, doi:10.1002/2015GL067232).

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`, with the area in m2.
    threshold : float, optional
        As in `extent`.

    Returns
    -------
    over : DataArray (...), m2
        Area with ice in the forecast but not in the truth.
    under : DataArray (...), m2
        Area with ice in the truth but not in the forecast.
    """
    formulas = edge_formulas(forecast, truth, threshold)
    share = scores_of_frames(formulas, (forecast, truth), ocean, area)
    total = area.where(ocean, 0.0).sum()
    return share.over * total, share.under * total


def edge_formulas(forecast, truth, threshold=None):
    """Formulas of `scores_of_frames` for the two parts of the ice-edge error.

    Parameters
    ----------
    forecast, truth, threshold
        As in `ice_edge_error`.

    Returns
    -------
    dict of str to callable
        ``over`` and ``under``, shares of the ocean.
    """
    limit_f, limit_t = (_threshold(field, threshold) for field in (forecast, truth))
    return {
        "over": lambda weights, f, t: weights @ ((f >= limit_f) & (t < limit_t)),
        "under": lambda weights, f, t: weights @ ((f < limit_f) & (t >= limit_t)),
    }


def _threshold(field, threshold):
    """The least value with ice, as the field would store it."""
    if threshold is None:
        standard_name = field.attrs.get("standard_name")
        if standard_name not in ICE_THRESHOLDS:
            raise InputError(
                f"threshold: the ice edge of {standard_name!r} is not defined (defined for: "
                f"{', '.join(ICE_THRESHOLDS)}); pass the threshold"
            )
        threshold = ICE_THRESHOLDS[standard_name]
    return np.asarray(threshold, np.result_type(field.dtype, "float32"))


def _product_ratio(weights, f, t):
    """<f t> / sqrt(<f^2> <t^2>), NaN if one of them is zero everywhere."""
    norm = np.sqrt((weights @ f**2) * (weights @ t**2))
    return weights @ (f * t) / norm if norm > 0 else np.nan


def _correlation(weights, f, t):
    f, t = f - f[0], t - t[0]  # so that the deviations of a uniform field are exactly zero
    return _product_ratio(weights, f - weights @ f, t - weights @ t)


# For `scores_of_frames`: weights of the cells, forecast and truth, each (cell,), give a number.
FORMULAS = {
    "rmse": lambda weights, f, t: np.sqrt(weights @ (f - t) ** 2),
    "bias": lambda weights, f, t: weights @ (f - t),
    "mean_absolute_error": lambda weights, f, t: weights @ abs(f - t),
    "correlation": _correlation,
}


def _score(name, forecast, truth, ocean, area, land_counts_as_zero=False):
    """One score of `FORMULAS`."""
    formulas = {name: FORMULAS[name]}
    table = scores_of_frames(formulas, (forecast, truth), ocean, area, land_counts_as_zero)
    return table[name].rename(forecast.name)


def scores_of_frames(formulas, fields, ocean, area=None, land_counts_as_zero=False):
    """Apply formulas to the ocean cells of every frame.

    Parameters
    ----------
    formulas : dict of str to callable
        Functions such as `FORMULAS`. They take the weights of the cells (cell,), whose sum is 1,
        and the values (cell,) of each field, float64 without NaN.
    fields : sequence of DataArray (..., y, x)
        Forecast and truth, and others that formulas take, with the same dimensions and equal
        coordinates.
    ocean, area, land_counts_as_zero
        As in `rmse`.

    Returns
    -------
    Dataset
        Each score (...), float64, by its name.

    Raises
    ------
    InputError
        If dimensions or coordinates are different, or the mask is not a mask.
    """
    for field in fields[1:]:
        check_fields(fields[0], field, ocean, area)
    weights = cell_weights(ocean, area, land_counts_as_zero)

    def all_formulas(weights, *cells):
        return np.array([formula(weights, *cells) for formula in formulas.values()])

    table = of_ocean_cells(all_formulas, fields, ocean, weights, {"score": len(formulas)})
    return table.assign_coords(score=list(formulas)).to_dataset("score")


def field_error(forecast, truth, ocean, area=None):
    """Forecast minus truth, after checks that nothing is broadcast and no time is lost.

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (..., y, x), float64
        Without attributes: the ``standard_name`` of a field does not describe its error.

    Raises
    ------
    InputError
        If dimensions or coordinates are different, or the mask is not a mask.
    """
    check_fields(forecast, truth, ocean, area)
    return (forecast.astype("float64") - truth.astype("float64")).drop_attrs(deep=False)


def check_fields(forecast, truth, ocean, area=None):
    """Check that no dimension would be broadcast and no time or cell lost.

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `rmse`.

    Raises
    ------
    InputError
        If dimensions or coordinates are different, or the mask is not a mask.
    """
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
        xr.align(forecast, truth, *grids, join="exact", copy=False)
    except ValueError as error:
        raise InputError(
            "forecast, truth, ocean and area must share their coordinates, but "
            f"{str(error).splitlines()[0]}; select the same times and cells before scoring"
        ) from error


def ocean_mean(values, ocean, area=None):
    """Mean over the ocean, weighted by cell area if it is given.

    Parameters
    ----------
    values : DataArray (..., y, x)
    ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (...), float64
    """
    weights = cell_weights(ocean, area).where(ocean, 0.0)
    # Values on land are replaced before weighting: NaN times a weight of zero would still be NaN.
    return xr.dot(values.where(ocean, 0.0), weights, dim=GRID)


def cell_weights(ocean, area=None, land_counts_as_zero=False):
    """Weights of the cells in a mean over the ocean, where their sum is 1.

    Parameters
    ----------
    ocean, area, land_counts_as_zero
        As in `rmse`.

    Returns
    -------
    DataArray (y, x), float64
    """
    weights = xr.ones_like(ocean, dtype="float64") if area is None else area.astype("float64")
    return weights / (weights if land_counts_as_zero else weights.where(ocean)).sum()
