"""Regions of both polar oceans, and scores in each of them."""

import numpy as np
import xarray as xr
from scipy import ndimage

from seaice_lab.diagnostics.frames import GRID, of_ocean_cells
from seaice_lab.diagnostics.scores import check_fields

# Boxes in degrees: south, north, west, and the width eastwards. In the south: the sectors of NSIDC.
REGIONS = {
    "central Arctic": (80, 90, 0, 360),
    "Beaufort Sea": (68, 80, 205, 31),
    "Chukchi Sea": (66, 80, 180, 25),
    "East Siberian Sea": (66, 80, 145, 35),
    "Laptev Sea": (68, 80, 100, 45),
    "Kara Sea": (66, 80, 60, 40),
    "Barents Sea": (66, 80, 18, 42),
    "Greenland Sea": (60, 80, 315, 63),
    "Baffin Bay": (60, 80, 280, 28),
    "Canadian Archipelago": (66, 80, 236, 44),
    "Weddell Sea": (-90, 0, 300, 80),
    "Indian Ocean": (-90, 0, 20, 70),
    "Western Pacific Ocean": (-90, 0, 90, 70),
    "Ross Sea": (-90, 0, 160, 70),
    "Bellingshausen and Amundsen Seas": (-90, 0, 230, 70),
}


def scores_by_region(forecast, truth, ocean, regions, area=None):
    """RMSE and bias of each start in each region.

    Parameters
    ----------
    forecast, truth, ocean, area
        As in `scores_by_start`.
    regions : dict of str to DataArray of bool (y, x)
        Masks by name, such as from `polar_regions`; each must contain some ocean.

    Returns
    -------
    Dataset
        ``rmse`` and ``bias``, each (init_time, lead_time, region).
    """
    check_fields(forecast, truth, ocean, area)
    masks = xr.concat(regions.values(), xr.Variable("region", list(regions))) & ocean
    weights = masks * (xr.ones_like(ocean, "float64") if area is None else area)

    def means(weights, forecast, truth):
        # A matrix product for all regions. So a NaN in the ocean makes all regions NaN.
        error = forecast - truth
        return np.stack([error**2, error]) @ weights

    sizes = {"score": 2, "region": len(regions)}
    means = of_ocean_cells(means, (forecast, truth), ocean, weights / weights.sum(GRID), sizes)
    squared_error, error = (means.isel(score=number) for number in range(2))
    table = xr.Dataset({"rmse": squared_error**0.5, "bias": error})
    return table.assign_coords(region=list(regions))


def polar_regions(latitude, longitude):
    """Masks of the named regions of the Arctic and the Southern Ocean, on any grid.

    Parameters
    ----------
    latitude, longitude : DataArray (y, x)
        Degrees.

    Returns
    -------
    dict of str to DataArray of bool (y, x)
        Boxes of latitude and longitude: simple and the same on all grids. In the north they are
        close to the regions of Meier et al. (2007, doi:10.3189/172756407782871170); in the south
        they are the sectors of Cavalieri and Parkinson (2008, doi:10.1029/2007JC004564), which
        NSIDC uses. A region is empty where the grid has no cells in it.
    """
    return {
        name: (latitude >= south) & (latitude <= north) & ((longitude - west) % 360 < width)
        for name, (south, north, west, width) in REGIONS.items()
    }


def near_coast(ocean, distance_m, dx_m):
    """Ocean cells close to land.

    Parameters
    ----------
    ocean : DataArray of bool (y, x)
        True where sea.
    distance_m, dx_m : float
        Largest distance from the centre of a cell of land, and distance between cells, m.

    Returns
    -------
    DataArray of bool (y, x)
        The edges of the grid are no coast.
    """
    distance = ndimage.distance_transform_edt(ocean.values) * dx_m
    near = distance <= distance_m if not ocean.values.all() else np.zeros(ocean.shape, bool)
    return ocean.copy(data=ocean.values & near)
