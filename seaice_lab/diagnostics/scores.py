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

from seaice_lab.errors import InputError
from seaice_lab.names import ICE_THRESHOLDS

GRID = ("y", "x")


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
    error = field_error(forecast, truth, ocean, area)
    return ocean_mean(error**2, ocean, area, land_counts_as_zero) ** 0.5


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
    error = field_error(forecast, truth, ocean, area)
    return ocean_mean(error, ocean, area, land_counts_as_zero)


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
    return ocean_mean(abs(field_error(forecast, truth, ocean, area)), ocean, area)


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
    check_fields(forecast, truth, ocean, area)
    f, t = forecast.astype("float64"), truth.astype("float64")
    f, t = f - ocean_mean(f, ocean, area), t - ocean_mean(t, ocean, area)
    return _product_ratio(f, t, ocean, area)


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
    anomalies = (field_error(field, climatology, ocean, area) for field in (forecast, truth))
    return _product_ratio(*anomalies, ocean, area)


def _product_ratio(f, t, ocean, area):
    """<f t> / sqrt(<f^2> <t^2>), NaN if one of them is zero everywhere."""
    product, ff, tt = (ocean_mean(pair, ocean, area) for pair in (f * t, f**2, t**2))
    return product / np.sqrt(ff * tt).where(lambda norm: norm > 0)


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
    has_ice = _has_ice(field, threshold).astype("float64")
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
    check_fields(forecast, truth, ocean, area)
    valid = forecast.notnull() & truth.notnull()
    f, t = _has_ice(forecast, threshold), _has_ice(truth, threshold)
    # A missing value in the ocean makes the error NaN.
    over, under = (error.astype("float64").where(valid) for error in (f & ~t, ~f & t))
    return volume(over, ocean, area), volume(under, ocean, area)


def _has_ice(field, threshold):
    if threshold is None:
        standard_name = field.attrs.get("standard_name")
        if standard_name not in ICE_THRESHOLDS:
            raise InputError(
                f"threshold: the ice edge of {standard_name!r} is not defined (defined for: "
                f"{', '.join(ICE_THRESHOLDS)}); pass the threshold"
            )
        threshold = ICE_THRESHOLDS[standard_name]
    return field >= threshold


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
        xr.align(forecast, truth, *grids, join="exact")
    except ValueError as error:
        raise InputError(
            "forecast, truth, ocean and area must share their coordinates, but "
            f"{str(error).splitlines()[0]}; select the same times and cells before scoring"
        ) from error


def ocean_mean(values, ocean, area=None, land_counts_as_zero=False):
    """Mean over the ocean, weighted by cell area if it is given.

    Parameters
    ----------
    values : DataArray (..., y, x)
    ocean, area, land_counts_as_zero
        As in `rmse`.

    Returns
    -------
    DataArray (...), float64
    """
    weights = xr.ones_like(ocean, dtype="float64") if area is None else area.astype("float64")
    ocean_weights = weights.where(ocean, 0.0)
    total = weights.sum() if land_counts_as_zero else ocean_weights.sum()
    # Values on land are replaced before weighting: NaN times a weight of zero would still be NaN.
    return xr.dot(values.where(ocean, 0.0), ocean_weights, dim=GRID) / total


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
