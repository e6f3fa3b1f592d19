"""Concentration by NASA Team, a retrieval that does not depend on the emissivity model.

Source: Cavalieri, Gloersen and Campbell (1984), as NSIDC describes it (Cavalieri 1992, equations 1
to 5), with the weather filters of Gloersen and Cavalieri (1986) and of Cavalieri, St. Germain and
Swift (1995). Tie points and limits of the filters are those of NSIDC's processing.
"""

import numpy as np
import pandas as pd

from seaice_lab.emissivity.observations import TB
from seaice_lab.emissivity.sensors import BUILT_IN
from seaice_lab.errors import InputError

TABLE = BUILT_IN.parent / "nasa_team_tie_points.csv"
CHANNELS, WEATHER_CHANNEL = ["19v", "19h", "37v"], "24v"
# Larger gradient ratios come from wind, vapour and clouds over open water.
HIGHEST_37V, HIGHEST_24V = {"north": 0.050, "south": 0.053}, 0.045


def concentration(tb_k, tie_points_k):
    """Concentration of all ice from three brightness temperatures.

    The algorithm uses the polarisation ratio (19V - 19H) / (19V + 19H) and the gradient ratio
    (37V - 19V) / (37V + 19V), because the temperature of the surface nearly cancels in them. It
    looks for the mixture of water, first-year and multi-year ice that has both ratios. Two ratios
    determine three temperatures up to a factor; hence the shares, whose sum is 1, solve the linear
    equations ``shares @ tie_points_k = factor * tb_k``. Equations 3 to 5 are their solution.

    Parameters
    ----------
    tb_k : ndarray (..., 3)
        19V, 19H and 37V, K.
    tie_points_k : ndarray (3, 3)
        Brightness temperatures (K) of open water, first-year and multi-year ice (rows).

    Returns
    -------
    ndarray (...)
        Between 0 and 1; NaN where a temperature is missing or no mixture has these ratios.
    """
    shares = np.asarray(tb_k, float) @ np.linalg.inv(tie_points_k)
    total = shares.sum(-1)
    water = np.divide(shares[..., 0], total, where=total > 0, out=np.full_like(total, np.nan))
    return (1 - water).clip(0, 1)


def retrieve(observations):
    """Concentration at each observation of the sensors with published tie points.

    Parameters
    ----------
    observations : Observations

    Returns
    -------
    ndarray (observation,)
        0 where a gradient ratio of 37V or 24V (22V) to 19V shows weather over open water; NaN for
        other sensors, and where a brightness temperature is missing.

    Raises
    ------
    InputError
        If no sensor has the channels and published tie points.
    """
    table, instruments = pd.read_csv(TABLE), observations.instruments
    needed = [*CHANNELS, WEATHER_CHANNEL]
    usable = [
        row
        for row, sensor in enumerate(instruments.sensors)
        if sensor in set(table.sensor)
        and set(needed) <= {instruments.channels[at] for at in instruments.positions[row]}
    ]
    if not usable:
        raise InputError(
            f"NASA Team: needs the channels {', '.join(needed)} of a sensor with published tie "
            f"points ({', '.join(table.sensor.unique())}), found "
            f"{', '.join(instruments.sensors)}; use observations of such a sensor"
        )
    point, _, sensor = np.asarray(observations.index).T
    columns = [instruments.channels.index(name) for name in needed]
    tb_k = observations.channels[:, TB, columns].astype(float)
    complete, south = np.isfinite(tb_k).all(1), observations.latitude[point] < 0
    ice = np.full(len(tb_k), np.nan)
    for row in usable:
        of_sensor = table[table.sensor == instruments.sensors[row]]
        for hemisphere, tie_points in of_sensor.groupby("hemisphere"):
            rows = complete & (sensor == row) & (south == (hemisphere == "south"))
            v19, _, v37, v24 = tb_k[rows].T
            weather = gradient_ratio(v37, v19) > HIGHEST_37V[hemisphere]
            weather |= gradient_ratio(v24, v19) > HIGHEST_24V
            retrieved = concentration(tb_k[rows, :3], tie_points[CHANNELS].to_numpy())
            ice[rows] = np.where(weather, 0.0, retrieved)
    return ice


def gradient_ratio(first_k, second_k):
    """Difference of two brightness temperatures, divided by their sum.

    Parameters
    ----------
    first_k, second_k : array

    Returns
    -------
    array
    """
    return (first_k - second_k) / (first_k + second_k)
