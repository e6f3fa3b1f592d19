"""Small tables of observations."""

import numpy as np

from seaice_lab.assimilation.observations import observation_table

NOON = np.datetime64("2021-03-01T12", "ns")
DAY = np.timedelta64(1, "D")


def table_of(count=4, **columns):
    """Concentrations at some longitudes, one a day from noon of 1 March 2021."""
    days = NOON + np.arange(count) * DAY
    defaults = {"time": days, "latitude": 80.0, "longitude": 10.0 * np.arange(count)}
    defaults |= {"value": 0.8, "sigma": 0.1, "kind": "sic", "source": "test"}
    return observation_table(defaults | columns)
