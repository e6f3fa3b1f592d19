"""Fields of a prepared store by name: read by time, or made from the grid and the date."""

from pathlib import Path

import numpy as np
import zarr
from scipy import ndimage

from seaice_lab import grid
from seaice_lab.errors import InputError
from seaice_lab.surrogate.frame_files import open_frames
from seaice_lab.surrogate.store import open_store, read_frames
from seaice_lab.surrogate.windows import DERIVED

MEMORY_BYTES = 4e9
MEAN_YEAR = np.timedelta64(31_556_952, "s")  # of the Gregorian calendar, 365.2425 days


class Fields:
    """Reads the fields of a store by name.

    Parameters
    ----------
    path : str or Path
        Prepared store.
    variables : sequence of str
        Names of variables of the store, or of :data:`~seaice_lab.surrogate.windows.DERIVED`.
    memory_bytes : float
        Fields that need less memory are read once and kept.

    Raises
    ------
    InputError
        If the store lacks a variable.
    """

    def __init__(self, path, variables, memory_bytes=MEMORY_BYTES):
        self.path = str(path)
        store = open_store(path)
        self.store = store = store.assign_coords(store.coords.to_dataset().compute().coords)
        self.ocean = store.ocean.values
        self.derived = {name: derived_field(name, store) for name in variables if name in DERIVED}
        self.variables = tuple(name for name in dict.fromkeys(variables) if name not in DERIVED)
        for name in self.variables:
            if name not in store:
                raise InputError(
                    f"{path}: lacks the variable {name!r} that the window needs (it has "
                    f"{', '.join(store.data_vars)}); prepare it again with this variable"
                )
        size = 4 * store.sizes["time"] * self.ocean.size * len(self.variables)
        self.in_memory = size < memory_bytes
        self._values = {}  # by name, if they are kept in memory
        folder = Path(path).expanduser()
        group = zarr.open_group(folder, mode="r", use_consolidated=False)
        self._arrays = {name: group[name] for name in self.variables}
        arrays = self._arrays.items()
        self._frames = {name: open_frames(folder / name, array) for name, array in arrays}

    def read(self, name, times):
        """Read one variable.

        Parameters
        ----------
        name : str
        times : ndarray of int
            Positions on the time axis.

        Returns
        -------
        ndarray (len(times), y, x), float32

        Raises
        ------
        InputError
            If the store is damaged: a chunk is cut short or missing.
        """
        if name in self.derived:
            values = self.derived[name]
            values = values[times] if len(values) > 1 else values
            return np.broadcast_to(values, (len(times), *self.ocean.shape))
        if self.in_memory:
            if name not in self._values:
                self._values[name] = self._read_new(name, np.arange(self.store.sizes["time"]))
            return self._values[name][times]
        return self._read_new(name, times)

    def _read_new(self, name, times):
        out = np.empty((len(times), *self.ocean.shape), "float32")
        self.read_into(name, times, out)
        return out

    def read_into(self, name, times, out):
        """Read one variable of the store into memory that is given.

        Parameters
        ----------
        name : str
        times : ndarray of int
            Positions on the time axis.
        out : ndarray (len(times), y, x), float32

        Raises
        ------
        InputError
            As :meth:`read`.
        """

        def read(times):
            if self._frames[name] is not None:
                self._frames[name].read(times, out)
                return out
            array, is_series = self._arrays[name], (np.diff(times) == 1).all()
            # Zarr reads a slice faster than single times.
            series = slice(times[0], times[-1] + 1)
            out[...] = array[series] if is_series else array.oindex[times]
            return out

        read_frames(self.store, name, times, read)


def derived_field(name, store):
    """Make an input from the grid or the date.

    Parameters
    ----------
    name : str
        One of :data:`~seaice_lab.surrogate.windows.DERIVED`.
    store : xarray.Dataset
        Prepared store.

    Returns
    -------
    ndarray (1, y, x) or (time, 1, 1), float32

    Raises
    ------
    InputError
        If the distance to the coast is asked for on a grid without land.
    """
    if name == "latitude":
        field = np.abs(store.latitude.values[None])  # the same distance from either pole
    elif name == "coast_distance_km":
        ocean = store.ocean.values
        if ocean.all():
            raise InputError(
                "coast_distance_km: the grid has no land, so there is no coast; leave this input "
                "out of the window"
            )
        # The edge of the domain is not a coast.
        field = ndimage.distance_transform_edt(ocean)[None] * grid.spacing_m(store) / 1e3
    else:
        year = store.time.values.astype("datetime64[Y]")
        angle = 2 * np.pi * (store.time.values - year) / MEAN_YEAR
        field = (np.sin(angle) if name == "season_sine" else np.cos(angle))[:, None, None]
    return field.astype("float32")
