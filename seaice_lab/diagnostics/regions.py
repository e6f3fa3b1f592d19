"""Regions of the Arctic, and scores in each of them."""

import xarray as xr

from seaice_lab.diagnostics.scores import GRID, field_error


def scores_by_region(forecast, truth, ocean, regions, area=None):
    """RMSE and bias of every single start in each of several regions.

    Parameters
    ----------
    regions : dict of str to DataArray of bool (y, x)
        As from `arctic_regions`, each with some ocean.
    forecast, truth, ocean, area
        As in `score_table`.

    Returns
    -------
    Dataset
        ``rmse``, ``bias`` (region, init_time, lead_time), regions by name.
    """
    masks = xr.concat(regions.values(), xr.Variable("region", list(regions))) & ocean
    weights = masks * (xr.ones_like(ocean, "float64") if area is None else area)
    weights = weights / weights.sum(GRID)
    # one matrix product for all regions; a NaN in the ocean spoils every region of its start
    error = field_error(forecast, truth, ocean, area).where(ocean, 0.0)
    return xr.Dataset(
        {
            "rmse": xr.dot(error**2, weights, dim=GRID) ** 0.5,
            "bias": xr.dot(error, weights, dim=GRID),
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
