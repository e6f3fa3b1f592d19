"""Products of an emissivity run: daily maps, read day by day."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from dashboards.readers import reading
from seaice_lab.errors import InputError

JULIAN_2000, DATE_2000 = 2451545.0, np.datetime64("2000-01-01T12:00")  # the same moment


class Products:
    """The daily maps in one file ``emissivity_grid_<tag>.nc``, opened lazily.

    Parameters
    ----------
    file : dashboards.readers.File

    Raises
    ------
    InputError
        If the file cannot be read or was made by an older version.
    """

    def __init__(self, file):
        self.file = file
        try:
            self.dataset = xr.open_dataset(file.path, decode_times=False, cache=False)
            self.latitude, self.longitude = self.dataset.lat.values, self.dataset.lon.values
            self.channels = [str(name) for name in self.dataset.channel_name.values]
            self.frequency_ghz = self.dataset.frequency.values
            middle = (self.dataset.time_start.values + self.dataset.time_end.values) / 2
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{Path(file.path).name}: cannot be read or is of another version ({error}); "
                "make it again with `seaice-lab emissivity train --diagsonly`"
            ) from None
        minutes = np.round((middle - JULIAN_2000) * 1440).astype("timedelta64[m]")
        # dates such as "2020-01-31"
        self.days = (DATE_2000 + minutes).astype("datetime64[D]").astype(str).tolist()

    def read(self, day, variables=None):
        """Read one day into memory.

        Parameters
        ----------
        day : int
            Position in ``days``.
        variables : sequence of str, optional
            Names of variables, which the file may lack; all by default.

        Returns
        -------
        xarray.Dataset
            Variables (grid,), (grid, prop) and (grid, channel).

        Raises
        ------
        InputError
            If the file is damaged.
        """
        names = [name for name in variables or self.dataset if name in self.dataset]
        with reading(self.file):
            return self.dataset[names].isel(step=day).load()


open_products = lru_cache(maxsize=4)(Products)  # a file that was replaced is another `File`
