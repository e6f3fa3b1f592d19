"""How far is a forecast from the truth? Scores over the ocean, lead time by lead time.

All functions take labelled arrays with dimensions ``y`` and ``x`` and any leading ones (a forecast
has ``init_time, lead_time``), stay lazy when the arrays are lazy, and average over ocean cells
only: values on land never count, even when they are NaN. A NaN in an ocean cell makes the score
of that start and lead NaN, because leaving the cell out would quietly score an easier forecast.

To score a part of the ocean pass ``ocean & region``, see :func:`arctic_regions`.
"""

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError

GRID = ("y", "x")
# An ice edge needs a threshold: the usual 15 % of concentration, and 10 cm of thickness where
# thickness is all there is.
EDGE = {"sea_ice_area_fraction": 0.15, "sea_ice_thickness": 0.1}


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


def mean_absolute_error(forecast, truth, ocean, area=None):
    """Mean absolute error over the ocean, <|forecast - truth|>; parameters as in `rmse`."""
    return _ocean_mean(abs(_error(forecast, truth, ocean, area)), ocean, area)


def correlation(forecast, truth, ocean, area=None):
    """Spatial correlation over the ocean, <f' t'> / sqrt(<f'^2> <t'^2>), f' = f - <f>.

    Parameters and errors as in `rmse`. NaN where one of the fields is uniform.
    """
    _error(forecast, truth, ocean, area)
    f, t = (
        field.astype("float64") - _ocean_mean(field.astype("float64"), ocean, area)
        for field in (forecast, truth)
    )
    product, ff, tt = (_ocean_mean(pair, ocean, area) for pair in (f * t, f**2, t**2))
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
    f, t = (_error(field, climatology, ocean, area) for field in (forecast, truth))
    product, ff, tt = (_ocean_mean(pair, ocean, area) for pair in (f * t, f**2, t**2))
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
    return xr.dot(_icy(field, threshold).astype("float64"), area.where(ocean, 0.0), dim=GRID)


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
    spoilt = _error(forecast, truth, ocean, area).where(ocean, 0.0).sum(GRID, skipna=False) * 0
    f, t = _icy(forecast, threshold), _icy(truth, threshold)
    weight = area.where(ocean, 0.0)
    over, under = (xr.dot(part.astype("float64"), weight, dim=GRID) for part in (f & ~t, ~f & t))
    return over + spoilt, under + spoilt


def crps(ensemble, truth, ocean, area=None):
    """Continuous ranked probability score of an ensemble, averaged over the ocean.

    mean_i |x_i - t| - sum_ij |x_i - x_j| / (2 m (m - 1)): the fair score, which does not reward
    a small ensemble for being underdispersive (Ferro 2014, doi:10.1002/qj.2270).

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.

    Raises
    ------
    InputError
        If there is a single member.
    """
    members = _members(ensemble)
    _error(ensemble.isel(member=0, drop=True), truth, ocean, area)
    to_truth = abs(ensemble - truth).mean("member", skipna=False)
    # Of sorted members, x_(i) stands in 2 i - m - 1 signed differences (i from 1).
    order = xr.DataArray(2 * np.arange(1, members + 1) - members - 1, dims="member")
    ranked = xr.apply_ufunc(
        np.sort,
        ensemble,
        input_core_dims=[["member"]],
        output_core_dims=[["member"]],
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=["float64"],
    )
    between = (ranked * order.astype("float64")).sum("member", skipna=False)
    return _ocean_mean(to_truth - between / (members * (members - 1)), ocean, area)


def spread(ensemble, ocean, area=None):
    """Spread of an ensemble, sqrt(<variance over members>), with m - 1 in the variance.

    Equal to the RMSE of the ensemble mean times sqrt(m / (m + 1)) when the ensemble is reliable
    (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    ocean, area
        As in `rmse`.
    """
    _members(ensemble)
    variance = ensemble.astype("float64").var("member", ddof=1, skipna=False)
    return _ocean_mean(variance, ocean, area) ** 0.5


def rank_histogram(ensemble, truth, ocean):
    """How often the truth falls below, between and above the sorted members.

    Flat for a reliable ensemble, a bowl for one with too little spread (Hamill 2001). A truth that
    equals members (as in open water, where all are zero) counts in equal parts for all ranks that
    it could take.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth : DataArray (..., y, x)
    ocean : DataArray of bool (y, x)

    Returns
    -------
    DataArray (rank,)
        Share of all ocean cells, starts and leads in each of the m + 1 ranks; they sum to 1.
    """
    members = _members(ensemble)
    _error(ensemble.isel(member=0, drop=True), truth, ocean, None)
    below = (ensemble < truth).sum("member")
    ties = (ensemble == truth).sum("member")
    rank = xr.DataArray(np.arange(members + 1), dims="rank")
    takes = (rank >= below) & (rank <= below + ties)
    share = (takes / (ties + 1)).where(ocean, 0.0)
    total = share.sum([dim for dim in share.dims if dim != "rank"])
    cells = int(ocean.sum()) * int(np.prod([truth.sizes[d] for d in truth.dims if d not in GRID]))
    return (total / cells).assign_coords(rank=rank)


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
    error = _error(forecast, truth, ocean, None).where(ocean)
    units = {"units": _common_units(forecast, truth)}
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


def arctic_regions(latitude, longitude):
    """Named parts of the Arctic Ocean on any grid.

    Parameters
    ----------
    latitude, longitude : DataArray (y, x)
        Degrees.

    Returns
    -------
    dict of str to DataArray of bool (y, x)
        Boxes of latitude and longitude: simple, the same on every grid, and close to the regions
        of Meier et al. (2007, doi:10.3189/172756407782871170). They may be empty on a small grid.
    """
    east = longitude % 360
    return {
        name: (latitude >= south) & (latitude <= north) & _between(east, west, to)
        for name, (south, north, west, to) in REGIONS.items()
    }


REGIONS = {  # south, north, west, east
    "central Arctic": (80, 90, 0, 360),
    "Beaufort Sea": (68, 80, 205, 236),
    "Chukchi Sea": (66, 80, 180, 205),
    "East Siberian Sea": (66, 80, 145, 180),
    "Laptev Sea": (68, 80, 100, 145),
    "Kara Sea": (66, 80, 60, 100),
    "Barents Sea": (66, 80, 18, 60),
    "Greenland Sea": (60, 80, 315, 18),
    "Baffin Bay": (60, 80, 280, 308),
    "Canadian Archipelago": (66, 80, 236, 280),
}


def _between(east, west, to):
    if to - west == 360:
        return east >= 0
    return (east >= west) & (east < to) if west < to else (east >= west) | (east < to)


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
        ``edge_error_over``, ``edge_error_under``.
    """
    if not {"init_time", "lead_time"} <= set(forecast.dims):
        raise InputError(
            f"the forecast has dimensions {forecast.dims}, expected init_time and lead_time among "
            "them; give a single forecast an init_time with expand_dims('init_time')"
        )
    units = _common_units(forecast, truth)
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
        found["volume_error"] = volume(_error(*pair, *weights), ocean, area)
    if area is not None and kind in EDGE:
        found["edge_error_over"], found["edge_error_under"] = ice_edge_error(*pair, *weights)
        found["extent_error"] = found["edge_error_over"] - found["edge_error_under"]
    table = xr.Dataset()
    for name, values in found.items():
        long_name, unit, methods = SCORES[name]
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


def ensemble_scores_by_start(ensemble, truth, ocean, area=None):
    """CRPS and spread of every single start, to stand beside `scores_by_start` of the mean.

    Parameters
    ----------
    ensemble : DataArray (init_time, member, lead_time, y, x)
    truth, ocean, area
        As in `score_table`.

    Returns
    -------
    Dataset
        ``crps``, ``spread`` (init_time, lead_time).
    """
    units = _common_units(ensemble, truth)
    found = {"crps": crps(ensemble, truth, ocean, area), "spread": spread(ensemble, ocean, area)}
    attrs = {
        name: {"long_name": SCORES[name][0], "units": units, "cell_methods": SCORES[name][2]}
        for name in found
    }
    return xr.Dataset({name: values.assign_attrs(attrs[name]) for name, values in found.items()})


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


def confidence(by_start, level=0.95, draws=1000, block=1, seed=0):
    """Bootstrap confidence intervals of the pooled scores over starts.

    Starts are drawn with replacement, the same ones for every score, lead time and source, so
    that differences between sources keep their pairing.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`, loaded.
    level : float
        Probability inside the interval.
    draws : int
    block : int
        Starts drawn together: neighbours in time are alike, and intervals from single starts are
        then too narrow. Take the number of starts over which errors stay correlated (Kunsch 1989).
    seed : int

    Returns
    -------
    Dataset
        ``<score>_low`` and ``<score>_high`` (lead_time).

    Raises
    ------
    InputError
        If there are fewer than two blocks.
    """
    count = by_start.sizes["init_time"]
    if count < 2 * block:
        raise InputError(
            f"{count} starts in blocks of {block}: expected at least two blocks to draw from; "
            "forecast from more starts or take a smaller block"
        )
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, count, (draws, -(-count // block)))
    drawn = (firsts[..., None] + np.arange(block)).reshape(draws, -1)[:, :count] % count
    weight = np.zeros((draws, count))
    np.add.at(weight, (np.arange(draws)[:, None], drawn), 1 / count)
    weight = xr.DataArray(weight, dims=("draw", "init_time"))
    limits = [(1 - level) / 2, (1 + level) / 2]
    result = xr.Dataset()
    for name, values in by_start.data_vars.items():
        power = 2 if name in SQUARED else 1
        pooled = xr.dot(values.drop_vars("init_time") ** power, weight, dim="init_time")
        low, high = (pooled ** (1 / power)).quantile(limits, "draw").transpose("quantile", ...)
        for end, bound in (("low", low), ("high", high)):
            comment = f"{level:.0%} bootstrap interval over starts, drawn in blocks of {block}"
            result[f"{name}_{end}"] = bound.drop_vars("quantile").assign_attrs(
                values.attrs, comment=comment
            )
    return result


def _pooled(name, values):
    power = 2 if name in SQUARED else 1
    return (values**power).mean("init_time", skipna=False) ** (1 / power)


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


def _members(ensemble):
    members = ensemble.sizes.get("member", 0)
    if members < 2:
        raise InputError(
            f"the ensemble has {members} members along 'member', expected at least 2; a single "
            "forecast has no spread: score it with rmse"
        )
    return members


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


def _ocean_mean(values, ocean, area, land_counts_as_zero=False):
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
