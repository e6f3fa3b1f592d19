"""How far is a forecast from the truth? Scores over the ocean, lead time by lead time.

All functions take labelled arrays with dimensions ``y`` and ``x`` and any leading ones (a forecast
has ``init_time, lead_time``), stay lazy when the arrays are lazy, and average over ocean cells
only: values on land never count, even when they are NaN. A NaN in an ocean cell makes the score
of that start and lead NaN, because leaving the cell out would quietly score an easier forecast.

To score a part of the ocean pass ``ocean & region``, see
:func:`seaice_lab.diagnostics.regions.arctic_regions`.
"""

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError
from seaice_lab.names import ICE_EDGE_CONCENTRATION

GRID = ("y", "x")
# An ice edge needs a threshold: the usual 15 % of concentration, and 10 cm of thickness where
# thickness is all there is.
EDGE = {"sea_ice_area_fraction": ICE_EDGE_CONCENTRATION, "sea_ice_thickness": 0.1}


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
    error = field_error(forecast, truth, ocean, area)
    return ocean_mean(error**2, ocean, area, land_counts_as_zero) ** 0.5


def bias(forecast, truth, ocean, area=None, land_counts_as_zero=False):
    """Mean error over the ocean, <forecast - truth>; positive where the forecast is too large.

    Parameters, returns and errors as in `rmse`; the published rule shrinks it by N_ocean / N_all.
    """
    error = field_error(forecast, truth, ocean, area)
    return ocean_mean(error, ocean, area, land_counts_as_zero)


def mean_absolute_error(forecast, truth, ocean, area=None):
    """Mean absolute error over the ocean, <|forecast - truth|>; parameters as in `rmse`."""
    return ocean_mean(abs(field_error(forecast, truth, ocean, area)), ocean, area)


def correlation(forecast, truth, ocean, area=None):
    """Spatial correlation over the ocean, <f' t'> / sqrt(<f'^2> <t'^2>), f' = f - <f>.

    Parameters and errors as in `rmse`. NaN where one of the fields is uniform.
    """
    field_error(forecast, truth, ocean, area)
    f, t = (
        field.astype("float64") - ocean_mean(field.astype("float64"), ocean, area)
        for field in (forecast, truth)
    )
    product, ff, tt = (ocean_mean(pair, ocean, area) for pair in (f * t, f**2, t**2))
    return product / np.sqrt(ff * tt).where(lambda norm: norm > 0)


def anomaly_correlation(forecast, truth, climatology, ocean, area=None):
    """Correlation of the departures from climatology, <f' t'> / sqrt(<f'^2> <t'^2>), f' = f - c.

    The uncentred form: a departure that is the same everywhere counts (Wilks 2019, Statistical
    Methods in the Atmospheric Sciences, section 9.8).

    Parameters
    ----------
    climatology : DataArray (..., y, x)
        Like the truth: the climatology of each valid time.
    forecast, truth, ocean, area
        As in `rmse`.
    """
    f, t = (field_error(field, climatology, ocean, area) for field in (forecast, truth))
    product, ff, tt = (ocean_mean(pair, ocean, area) for pair in (f * t, f**2, t**2))
    return product / np.sqrt(ff * tt).where(lambda norm: norm > 0)


def skill(score, reference):
    """Share of the reference's error that the forecast takes away, 1 - score / reference.

    1 is perfect, 0 as good as the reference, negative worse; NaN where the reference is perfect.

    Parameters
    ----------
    score, reference : DataArray
        The same error score (RMSE, mean absolute error, CRPS) of the forecast and of a reference.
    """
    return 1 - score / reference.where(reference > 0)


def published_forecast_skill(forecast, truth, ocean, scale):
    """The "forecast skill" of Durand et al. (2024): an RMSE in normalised units, land included.

    sqrt(<((forecast - truth) / scale)^2>) over all cells, land counting as zero error, then the
    plain mean over starts. Despite its name it is an error: 0 is perfect.

    Parameters
    ----------
    scale : float
        Standard deviation that the state was normalised with, in the unit of the field.
    forecast, truth, ocean
        As in `rmse`; ``init_time`` is averaged over.
    """
    by_start = rmse(forecast, truth, ocean, land_counts_as_zero=True) / scale
    return by_start.mean("init_time") if "init_time" in by_start.dims else by_start


def published_to_metres(score, ocean, scale, of="rmse"):
    """Turn a published score into the unit of the field over the ocean.

    RMSE = score x scale x sqrt(N_all / N_ocean), bias = score x scale x N_all / N_ocean.

    Parameters
    ----------
    score : DataArray or float
        In normalised units over all cells.
    ocean : DataArray of bool (y, x)
    scale : float
        Standard deviation that the state was normalised with.
    of : "rmse" or "bias"
    """
    dilution = ocean.size / int(ocean.sum())
    return score * scale * (dilution**0.5 if of == "rmse" else dilution)


def volume(thickness, ocean, area):
    """Volume of the ice, sum of thickness times cell area over the ocean, m3.

    Parameters
    ----------
    thickness : DataArray (..., y, x)
        Ice volume per cell area, m.
    ocean : DataArray of bool (y, x)
    area : DataArray (y, x)
        m2.
    """
    return xr.dot(thickness.where(ocean, 0.0), area.where(ocean, 0.0), dim=GRID)


def extent(field, ocean, area, threshold=None):
    """Area of the cells with ice, where the field is at or above the threshold, m2.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Concentration or thickness, known by its ``standard_name``.
    threshold : float, optional
        0.15 for concentration, 0.1 m for thickness.
    ocean, area
        As in `volume`.

    Raises
    ------
    InputError
        If no threshold is given and the field is neither.
    """
    icy = _icy(field, threshold).astype("float64").where(field.notnull()).where(ocean, 0.0)
    return xr.dot(icy, area.where(ocean, 0.0), dim=GRID)


def ice_edge_error(forecast, truth, ocean, area, threshold=None):
    """Integrated ice-edge error: the area where forecast and truth disagree that there is ice.

    over = area with ice in the forecast alone, under = area with ice in the truth alone; their sum
    is the error, their difference the error of the extent (Goessling et al. 2016,
    doi:10.1002/2015GL067232).

    Parameters
    ----------
    threshold : float, optional
        As in `extent`.
    forecast, truth, ocean, area
        As in `rmse`, area in m2.

    Returns
    -------
    over, under : DataArray (...), m2
    """
    spoilt = field_error(forecast, truth, ocean, area).where(ocean, 0.0).sum(GRID, skipna=False) * 0
    f, t = _icy(forecast, threshold), _icy(truth, threshold)
    weight = area.where(ocean, 0.0)
    over, under = (xr.dot(part.astype("float64"), weight, dim=GRID) for part in (f & ~t, ~f & t))
    return over + spoilt, under + spoilt


def error_maps(forecast, truth, ocean):
    """RMSE and bias of every cell over starts.

    Parameters
    ----------
    forecast, truth : DataArray (init_time, lead_time, y, x)
    ocean : DataArray of bool (y, x)

    Returns
    -------
    Dataset
        ``rmse``, ``bias`` (lead_time, y, x) in the unit of the field, NaN on land.
    """
    error = field_error(forecast, truth, ocean, None).where(ocean)
    units = {"units": common_units(forecast, truth)}
    return xr.Dataset(
        {
            "rmse": ((error**2).mean("init_time", skipna=False) ** 0.5).assign_attrs(
                units, long_name="Root-mean-square error", cell_methods="init_time: mean"
            ),
            "bias": error.mean("init_time", skipna=False).assign_attrs(
                units, long_name="Mean error (forecast minus truth)", cell_methods="init_time: mean"
            ),
        }
    )


def _icy(field, threshold):
    if threshold is None:
        kind = field.attrs.get("standard_name")
        if kind not in EDGE:
            raise InputError(
                f"threshold: an ice edge of {kind!r} is not known (known: {', '.join(EDGE)}); "
                "pass the threshold"
            )
        threshold = EDGE[kind]
    return field >= threshold


def field_error(forecast, truth, ocean, area):
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


def ocean_mean(values, ocean, area, land_counts_as_zero=False):
    weights = xr.ones_like(ocean, dtype="float64") if area is None else area.astype("float64")
    over_ocean = weights.where(ocean, 0.0)
    total = weights.sum() if land_counts_as_zero else over_ocean.sum()
    # Land is emptied before weighting: a NaN there times a zero weight would still be NaN.
    return xr.dot(values.where(ocean, 0.0), over_ocean, dim=GRID) / total


def common_units(forecast, truth):
    units = forecast.attrs.get("units"), truth.attrs.get("units")
    if units[0] is None or units[0] != units[1]:
        raise InputError(
            f"the forecast has units {units[0]!r} and the truth {units[1]!r}, expected the same "
            "stated unit; convert the values and set the units attribute"
        )
    return units[0]
