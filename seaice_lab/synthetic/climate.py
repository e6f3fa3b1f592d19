"""Climate of the synthetic Arctic and Antarctic: mean pressure, sea temperature, thick ice.

The patterns are rough: a high over the Beaufort Sea, the Icelandic low, warm inflow from the
Atlantic and the Pacific; in the south a high over the continent, the trough around it, the low of
the Amundsen Sea, and warm water north of the Antarctic Circumpolar Current.
"""

import numpy as np

from seaice_lab.grid import hemisphere_of

FREEZING_C = -1.8
HALF_A_YEAR = 182.5  # days


def hemisphere(domain):
    """The hemisphere of a domain: "north" or "south"."""
    return hemisphere_of(domain.latitude.values)


def day_of_northern_year(time, hemisphere):
    """Day of the year in the north with the same season.

    Parameters
    ----------
    time : numpy.datetime64
    hemisphere : "north" or "south"

    Returns
    -------
    float
        Days since the start of the year; in the south, those of half a year later.
    """
    day = (time - time.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    return day if hemisphere == "north" else (day + HALF_A_YEAR) % 365


def sea_temperature_c(domain, day):
    """Ocean temperature to which the mixed layer relaxes: warm inflow, cold water elsewhere.

    Parameters
    ----------
    domain : xarray.Dataset
        From :func:`seaice_lab.land.polar_grid`.
    day : float
        From :func:`day_of_northern_year`.

    Returns
    -------
    ndarray (y, x)
        Degrees Celsius.
    """
    x, y = plane(domain)
    season = np.cos(2 * np.pi * (day - 75) / 365)  # coldest in mid-March
    if hemisphere(domain) == "north":
        # Each inflow is a Gaussian: its excess temperature, centre and widths.
        norway = 9 * np.exp(-(((x - 1.7e6) / 5.5e5) ** 2) - ((y + 1.95e6) / 7e5) ** 2)
        barents = 6 * np.exp(-(((x - 2.05e6) / 5.5e5) ** 2) - ((y + 0.75e6) / 4e5) ** 2)
        greenland_sea = 3 * np.exp(-(((x - 1.05e6) / 3e5) ** 2) - ((y + 1.6e6) / 6e5) ** 2)
        bering = 3 * np.exp(-(((x + 2.3e6) / 4e5) ** 2) - ((y - 1.6e6) / 5e5) ** 2)
        labrador = 5 * np.exp(-(((x + 9e5) / 5e5) ** 2) - ((y + 2.6e6) / 5e5) ** 2)
        warm = norway + barents + greenland_sea + bering + labrador
    else:
        # The cold water extends farthest from the pole in the Weddell Sea, 30 W.
        distance = np.hypot(x, y) - 2.5e5 * np.cos(np.arctan2(x, y) + np.radians(30))
        warm = 9 / (1 + np.exp(-(distance - 3.35e6) / 1.6e5))
    return FREEZING_C + warm * (1 - 0.25 * season) + 0.25 * max(-season, 0.0)


def mean_pressure(domain, winter):
    """Sea-level pressure of the permanent highs and lows.

    Parameters
    ----------
    domain : xarray.Dataset
        From :func:`seaice_lab.land.polar_grid`.
    winter : float
        0 in summer, 1 in winter.

    Returns
    -------
    ndarray (y, x)
        hPa, relative to the mean.
    """
    x, y = plane(domain)
    if hemisphere(domain) == "north":
        high = np.exp(-(((x + 9e5) ** 2 + (y - 3e5) ** 2) / 1.0e6**2))
        iceland = np.exp(-(((x - 1.5e6) ** 2 + (y + 2.2e6) ** 2) / 1.1e6**2))
        return (2 + 9 * winter) * high - 14 * iceland
    trough = np.exp(-(((np.hypot(x, y) - 2.7e6) / 8e5) ** 2))
    amundsen = np.exp(-(((x + 2.1e6) ** 2 + (y + 1.3e6) ** 2) / 8e5**2))
    return -14 * trough - (3 + 3 * winter) * amundsen


def winter_thickness(domain):
    """Thickness of the ice of a winter where the sea is cold.

    Parameters
    ----------
    domain : xarray.Dataset
        From :func:`seaice_lab.land.polar_grid`.

    Returns
    -------
    ndarray (y, x)
        Metres: thick north of Greenland and Canada, and east of the Antarctic Peninsula.
    """
    x, y = plane(domain)
    if hemisphere(domain) == "north":
        return 1.0 + 2.6 * np.exp(-np.hypot(x + 6e5, y + 6e5) / 9e5)
    return 0.6 + 1.4 * np.exp(-np.hypot(x + 2.0e6, y - 1.3e6) / 6e5)


def plane(domain):
    """Coordinates x and y of the cells of a domain, each (y, x), in metres."""
    return np.meshgrid(domain.x.values, domain.y.values)
