"""Products of an emissivity run: daily maps, read day by day."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from dashboards.run_files import reading
from seaice_lab.errors import InputError
from seaice_lab.runs import open_run

MAX_LAGS = 2  # days before the first one on which observations can depend
JULIAN_2000, DATE_2000 = 2451545.0, np.datetime64("2000-01-01T12:00")  # the same moment


class Products:
    """The daily maps in one file ``emissivity_grid_<tag>.nc``, opened lazily.

    Parameters
    ----------
    file : dashboards.run_files.File

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


def truth_of(library, run, products):
    """The true concentration of simulated observations, or None if it is not known.

    Parameters
    ----------
    library : dashboards.library.Library
    run : str
    products : Products

    Returns
    -------
    ndarray (step, grid) or None
        From ``truth.nc`` in the folder of the observations. None if it belongs to other days or
        cells.
    """
    folder, config = library.path(run, "config.yaml").parent, open_run(library.path(run)).config
    # As for stores: a relative path starts at a folder above the run, or at the working folder.
    folders = [*folder.parents[: len(Path(run).parts) + 2], Path()]
    paths = [base / config.get("data", "") / "truth.nc" for base in folders]
    path = next((path for path in paths if path.is_file()), None)
    if path is None or config.get("step_start") or config.get("steps") is not None:
        return None
    try:
        with xr.open_dataset(path) as dataset:
            concentration = dataset.sic.transpose("lagstep", "grid").values
    except (OSError, ValueError, AttributeError):
        return None
    # The truth begins a few days before the first day, as the maps that are estimated.
    lags = len(concentration) - len(products.days)
    same_cells = concentration.shape[1] == len(products.latitude)
    return concentration[lags:] if same_cells and 0 <= lags <= MAX_LAGS else None


open_products = lru_cache(maxsize=4)(Products)  # a file that was replaced is another `File`
