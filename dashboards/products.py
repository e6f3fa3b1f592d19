"""Products of an emissivity run: daily maps, read day by day."""

import io
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError
from seaice_lab.files import write_netcdf

JULIAN_2000, DAY_2000 = 2451545.0, np.datetime64("2000-01-01T12:00")  # the same moment


class Products:
    """The maps of one tag of a run, opened lazily.

    Parameters
    ----------
    path : str or Path
        ``emissivity_grid_<tag>.nc``.

    Raises
    ------
    InputError
        If it cannot be read or is of an older version.
    """

    def __init__(self, path):
        self.name = path.name
        try:
            self.dataset = xr.open_dataset(path, decode_times=False, cache=False)
            self.latitude, self.longitude = self.dataset.lat.values, self.dataset.lon.values
            self.channels = [str(name) for name in self.dataset.channel_name.values]
            self.frequency_ghz = self.dataset.frequency.values
            middle = (self.dataset.time_start.values + self.dataset.time_end.values) / 2
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.name}: cannot be read, or was made by another version ({error}); make it "
                "again with `seaice-lab emissivity train --diagsonly`"
            ) from None
        self.days = [julian_date(day) for day in middle]
        self.properties = self.dataset.sizes["prop"]
        self.has_first_guess = "sea_ice_first_guess" in self.dataset

    def day(self, day):
        """One day of the file, in memory."""
        try:
            return self.dataset.isel(step=day).load()
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.name}: cannot be read here ({error})") from None

    def read(self, day):
        """Fields of one day by name: (grid,), properties (grid, prop), emissivity (grid, channel).

        Raises
        ------
        InputError
            If the file is damaged.
        """
        names = {"concentration": "sea_ice_concentration", "first_guess": "sea_ice_first_guess",
                 "properties": "properties", "emissivity": "sea_ice_emissivity"}  # fmt: skip
        try:
            return {
                name: self.dataset[variable].isel(step=day).values
                for name, variable in names.items()
                if variable in self.dataset
            }
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.name}: cannot be read here ({error})") from None


def as_netcdf(dataset):
    """A dataset as the bytes of a CF NetCDF file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fields.nc"
        write_netcdf(file, dataset)
        return io.BytesIO(file.read_bytes())


def julian_date(day):
    """The date of an astronomical Julian day, as text."""
    minutes = np.timedelta64(round((float(day) - JULIAN_2000) * 1440), "m")
    return str((DAY_2000 + minutes).astype("datetime64[D]"))
