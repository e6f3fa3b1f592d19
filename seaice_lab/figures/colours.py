"""The colour map "sea_ice", which is registered in matplotlib when this module is imported."""

import cmocean  # noqa: F401  (registers its colour maps as "cmo.<name>")
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap

DARKEST = 0.25  # where it begins in cmocean's map of ice, whose first colours are nearly black

_shades = colormaps["cmo.ice"](np.linspace(DARKEST, 1, 256))
colormaps.register(ListedColormap(_shades, "sea_ice"), force=True)
