"""Global attributes of the files that the project writes: CF and ACDD 1.3.

ACDD is the Attribute Convention for Data Discovery, by which catalogues of data find a file.
"""

from datetime import UTC, datetime

import numpy as np

from seaice_lab import names

WIDEST_GAP = 45  # degrees; longitudes without a wider gap go around the Earth, as near a pole
# What the files of each command hold.
SUMMARIES = {
    "prepare": "Fields of a sea-ice model and its forcing on one grid, with ocean mask and splits.",
    "train": "Positions and ocean mask of the grid on which a surrogate was trained.",
    "forecast": "Forecasts of sea ice by a neural network that learned from model output, by start "
    "date and lead time.",
    "evaluate": "Scores or power spectra of a forecast and of reference forecasts against the "
    "truth, over the ocean, by lead time.",
    "scaling": "Statistics of the scaling of a forecast, its truth and reference forecasts.",
    "emissivity": "Sea ice, its empirical properties and its emissivity, estimated from microwave "
    "observations, or simulations of these observations.",
    "emissivity simulate": "Sea ice that is known, from which observations were simulated.",
    "emissivity export": "A trained model of the emissivity of sea ice for other programs.",
    "assimilate run": "States of sea ice or statistics of a data assimilation (4D-Var).",
    "assimilate observations": "Observations of sea ice at points.",
    "data make": "Output of an idealised sea-ice model, for tests and teaching.",
    "dashboard": "Fields of forecasts and of their truth at one time.",
}


def file_attributes(title, source, command, licence=None):
    """Global attributes that CF and ACDD recommend for a file.

    Parameters
    ----------
    title : str
    source : str
        Model or method that produced the data.
    command : str
        Words of the command after ``seaice-lab``, for the history.
    licence : str, optional
        Licence of the data.

    Returns
    -------
    dict of str
    """
    time = datetime.now(UTC).isoformat(timespec="seconds")
    attributes = {
        "Conventions": names.CONVENTIONS,
        "title": title,
        "summary": SUMMARIES[command],
        "keywords": "sea ice",
        "source": source,
        "history": f"{time} seaice-lab {command}",
        "date_created": time,
    }
    return attributes | ({"license": licence} if licence else {})


def coverage(dataset):
    """Attributes of ACDD for the region and the period of a dataset.

    Parameters
    ----------
    dataset : xarray.Dataset
        Its positions have the names ``latitude`` and ``longitude``, or ``lat`` and ``lon``.

    Returns
    -------
    dict
        ``geospatial_lat_min`` and so on in degrees, and ``time_coverage_start`` and ``_end`` of the
        valid times, or of all times if none has the standard name ``time``. The west end of a
        region across 180 degrees is larger than its east end.
    """
    attributes = {}
    for latitude, longitude in (("latitude", "longitude"), ("lat", "lon")):
        if {latitude, longitude} <= dataset.variables.keys():
            degrees = [dataset[name].values.astype(float) for name in (latitude, longitude)]
            south_north, west_east = (values[np.isfinite(values)] for values in degrees)
            if south_north.size and west_east.size:
                west, east = _ends_of_longitudes(west_east)
                attributes = {
                    "geospatial_lat_min": float(south_north.min()),
                    "geospatial_lat_max": float(south_north.max()),
                    "geospatial_lon_min": west,
                    "geospatial_lon_max": east,
                }
    return attributes | _period(dataset)


def _ends_of_longitudes(longitude):
    """West and east end of the arc that holds all longitudes, from -180 to 180 degrees."""
    degrees = longitude % 360
    occupied = np.unique(np.floor(degrees).astype(int) % 360)
    gaps = np.diff(occupied, append=occupied[0] + 360)
    if gaps.max() <= WIDEST_GAP:
        return -180.0, 180.0
    first = occupied[(gaps.argmax() + 1) % len(occupied)]  # the arc starts east of the widest gap
    distance = (degrees - first) % 360
    west, width = (first + distance.min() + 180) % 360 - 180, np.ptp(distance)
    if width == 0 and abs(longitude[0]) <= 180:
        west = longitude[0]  # a point at 180 degrees is not at -180 degrees
    east = west + width
    return float(west), float(east if east <= 180 else east - 360)


def _period(dataset):
    """First and last time of a dataset as attributes."""
    import xarray as xr

    times = {
        name: variable
        for name, variable in dataset.variables.items()
        if variable.dtype.kind == "M" or " since " in str(variable.attrs.get("units", ""))
    }
    valid = {n: v for n, v in times.items() if v.attrs.get("standard_name") == "time"}
    decoded = xr.decode_cf(xr.Dataset(valid or times)).variables.values()
    values = [v.values[~np.isnat(v.values)] for v in decoded if v.dtype.kind == "M"]
    if not sum(map(np.size, values)):
        return {}
    values = np.concatenate([array.ravel() for array in values])
    start, end = (f"{np.datetime_as_string(time, 's')}Z" for time in (values.min(), values.max()))
    return {"time_coverage_start": start, "time_coverage_end": end}
