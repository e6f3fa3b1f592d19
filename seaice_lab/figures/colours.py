"""Colours of maps: the colour map "sea_ice", which is registered in matplotlib, and open water."""

import cmocean  # noqa: F401  (registers its colour maps as "cmo.<name>")
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, to_hex

from seaice_lab.names import ICE_THRESHOLDS

DARKEST = 0.25  # where it begins in cmocean's map of ice, whose first colours are nearly black
THIN = 0.75  # exponent of the positions in that map; below 1, thin ice has more of the colours
SHADES = 256  # of a colour scale
WATER = "#a5cbe3"  # open water: unlike thin ice, which is dark, and unlike land

_positions = DARKEST + (1 - DARKEST) * np.linspace(0, 1, SHADES) ** THIN
colormaps.register(ListedColormap(colormaps["cmo.ice"](_positions), "sea_ice"), force=True)


def palette(colour_map, limits, water=None):
    """The colours of a scale.

    Parameters
    ----------
    colour_map : str
        Name of a matplotlib colour map.
    limits : (float, float)
        Lowest and highest value of the scale.
    water : float, optional
        Smaller values are open water, which has a colour of its own.

    Returns
    -------
    list of str
    """
    shades = [to_hex(shade) for shade in colormaps[colour_map](np.linspace(0, 1, SHADES))]
    if water is not None:
        count = round(SHADES * (water - limits[0]) / (limits[1] - limits[0]))
        count = int(np.clip(count, 0, SHADES))
        shades[:count] = [WATER] * count
    return shades


def palette_of(variable, limits):
    """The colours of a variable; what is no ice by the threshold of the scores is open water.

    Parameters
    ----------
    variable : seaice_lab.names.Variable
    limits : (float, float)
        Lowest and highest value of the scale.

    Returns
    -------
    list of str
    """
    return palette(variable.colour_map, limits, ICE_THRESHOLDS.get(variable.standard_name))
