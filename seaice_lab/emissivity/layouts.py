"""The published layouts of observation files, opened lazily and checked.

Version 1 by month (``amsr2_v2_202008.nc``, its last channels are used), version 1 by year
(``field_v2_TSFC.nc``, one field a file) and version 2 (``amsr2/amsr2_TSFC.nc``, one folder a
sensor, which may be left out), each beside ``ifs_seaice_*.nc`` and ``ifs_tsfc_*.nc``.
"""

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError

EXACT_FLOAT32 = 2**24
SCALARS = ("TSFC", "WINDSPEED10M", "CLOUD_FRACTION", "SCANPOS", "ZENITH")
OPTIONAL = ("SCANPOS", "ZENITH")
CHANNELS = ("OBSVALUE", "EMIS_WATER", "TAUSFC", "TDOWN", "TUP", "TAUSFC_CLD", "TDOWN_CLD",
            "TUP_CLD")  # fmt: skip
# What honest values never leave; catches degrees Celsius and percent.
PLAUSIBLE = {
    "OBSVALUE": (20, 400), "TSFC": (150, 350), "WINDSPEED10M": (0, 100), "CLOUD_FRACTION": (0, 1),
    "EMIS_WATER": (0, 1.05), "TAUSFC": (0, 1.01), "TAUSFC_CLD": (0, 1.01), "TDOWN": (0, 400),
    "TDOWN_CLD": (0, 400), "TUP": (0, 400), "TUP_CLD": (0, 400), "SCANPOS": (0, 1000),
    "ZENITH": (-90, 90), "SEAICE": (-0.01, 1.01), "JULIAN_DAY": (2.4e6, 2.6e6),
}  # fmt: skip


def open_fields(data, sensor, channels, row, opened):
    """Fields of one sensor as lazily read arrays: observation, or (observation, channel).

    Their files stay open until the ExitStack ``opened`` closes them.
    """
    if not data.exists():
        raise InputError(f"{data}: no such file or folder of observations; check the path")
    months = [data] if data.is_file() else sorted(data.glob(f"{sensor}_v2_[0-9]*.nc"))
    if len(months) > 1:
        raise InputError(
            f"{data}: holds {len(months)} monthly files ({months[0].name}, {months[1].name}); "
            "name the file of one month"
        )
    if months:
        paths = dict.fromkeys(("JULIAN_DAY", "IGRID", *SCALARS, *CHANNELS), months[0])
    elif (data / "field_v2_OBSVALUE.nc").exists():
        paths = {name: data / f"field_v2_{name}.nc"
                 for name in ("JULIAN_DAY", "IGRID", *SCALARS, *CHANNELS)}  # fmt: skip
    else:
        inside = data / sensor if (data / sensor).is_dir() else data
        paths = {name: inside / f"{sensor}_{name}.nc"
                 for name in ("JULIAN_DAY", "IGRID", *SCALARS, *CHANNELS)}  # fmt: skip
    fields = {"row": row, "sensor": sensor, "paths": set()}
    for name, path in paths.items():
        if not path.exists() and name in OPTIONAL:
            continue
        if not path.exists():
            raise InputError(
                f"{path}: is missing, so {sensor} has no {name}; the layout needs one file for "
                f"each of {', '.join(n for n in paths if n not in OPTIONAL)}"
            )
        try:
            dataset = xr.open_dataset(path, decode_times=False, cache=False)
            opened.enter_context(dataset)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None
        if name not in dataset:
            if name in OPTIONAL:
                continue
            raise InputError(
                f"{path}: holds no {name}, found {', '.join(dataset.data_vars)}; add it"
            )
        fields[name] = dataset[name]
        fields["paths"].add(path)
    length = fields["JULIAN_DAY"].shape[0]
    for name in (*SCALARS, "IGRID", *CHANNELS):
        if name not in fields:
            continue
        shape = fields[name].shape
        if shape[:1] != (length,) or len(shape) != 1 + (name in CHANNELS):
            raise InputError(
                f"{paths[name]}: {name} has shape {shape}, but JULIAN_DAY has {length} "
                "observations; all fields of a sensor must have the same length"
            )
        if name in CHANNELS and shape[1] != channels:
            if months and shape[1] > channels:  # monthly files begin with channels not used
                fields[name] = fields[name][:, shape[1] - channels :]
                continue
            raise InputError(
                f"{paths[name]}: {name} has {shape[1]} channels, {sensor} has {channels}; "
                "describe the sensor's channels in a YAML file or mend the field"
            )
    if not length:
        raise InputError(f"{paths['JULIAN_DAY']}: holds no observation; leave {sensor} out")
    return fields


def days_of(fields):
    """Julian days of one sensor, checked."""
    path, day = fields["JULIAN_DAY"].encoding.get("source"), fields["JULIAN_DAY"].values
    day = np.asarray(day, "float64")
    low, high = PLAUSIBLE["JULIAN_DAY"]
    wrong = ~((day > low) & (day < high))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"{path}: JULIAN_DAY of observation {at} is {day[at]:g}, expected astronomical Julian "
            "days (2451545 is noon of 1 January 2000)"
        )
    back = np.diff(day) < 0
    if back.any():
        raise InputError(
            f"{path}: times are not sorted (observation {int(np.argmax(back)) + 1} is earlier than "
            f"the one before); sort all fields of {fields['sensor']} by JULIAN_DAY"
        )
    return day


def check_range(name, values, where):
    finite = values[np.isfinite(values)]
    low, high = PLAUSIBLE[name]
    if finite.size and (finite.min() < low or finite.max() > high):
        raise InputError(
            f"{where}: {name} runs from {finite.min():.4g} to {finite.max():.4g}, expected values "
            f"within {low:g} to {high:g}; check its units, and mark missing values as NaN"
        )


def grid_points(grid, fields, points):
    """Grid indices as integers, checked."""
    where = f"{fields['IGRID'].encoding.get('source', fields['sensor'])}: IGRID"
    if grid.dtype.kind == "f":
        rounded = grid.dtype == np.float32 and np.nanmax(grid) >= EXACT_FLOAT32
        if rounded or not (grid == np.rint(grid)).all():
            raise InputError(
                f"{where} holds floating-point numbers that are not exact indices; write it as "
                "32-bit integers"
            )
    if grid.min() < 0 or grid.max() >= points:
        raise InputError(
            f"{where} runs from {grid.min():g} to {grid.max():g}, but the maps have {points} grid "
            f"points (0 to {points - 1}); use maps on the grid of the observations"
        )
    return grid.astype("int32")


def open_maps(data):
    """First guess (grid, ...) and skin temperature (grid, step) with their positions."""
    folder = data if data.is_dir() else data.parent
    found = []
    for pattern, names in (("ifs_seaice_*.nc", ("SEAICE", "seaice")), ("ifs_tsfc_*.nc", ("TSFC",))):
        paths = sorted(folder.glob(pattern))
        if len(paths) != 1:
            raise InputError(
                f"{folder}: {len(paths)} files match {pattern}, expected exactly one beside the "
                "observations"
            )
        with xr.open_dataset(paths[0], decode_times=False) as dataset:
            name = next((name for name in names if name in dataset), None)
            if name is None:
                raise InputError(
                    f"{paths[0]}: holds no {names[0]}, found {', '.join(dataset.data_vars)}"
                )
            values = dataset[name].values.astype("float32")
            if not np.isfinite(values).all():
                raise InputError(
                    f"{paths[0]}: {names[0]} has values that are not finite; fill them"
                )
            check_range(names[0], values, paths[0])
            found.append(values)
            positions = [next((dataset[n].values.astype("float32") for n in spellings
                               if n in dataset.variables), None)
                         for spellings in (("LAT", "lat"), ("LON", "lon"))]  # fmt: skip
    if (folder / "grid.nc").exists():
        with xr.open_dataset(folder / "grid.nc") as dataset:
            positions = [dataset[name].values.astype("float32") for name in ("lat", "lon")]
    guess, skin = found
    if any(one is None or one.shape != guess.shape[:1] for one in positions):
        raise InputError(
            f"{folder}: the positions of the {len(guess)} grid points are missing; add LAT and LON "
            "to the maps, or a grid.nc with lat and lon"
        )
    return guess, skin if skin.ndim == 2 else skin[:, None], *positions


def fit_guess(field, start, steps, lags, days):
    """Columns of the first guess for a run of steps, float32 (grid, lags + steps).

    Its first column is ``lags`` days before the first observations; a map with no more columns than
    the skin temperature has ``days`` lacks those, and gets its first column in their place. One
    with more columns than the run needs is cut at ``start`` (the published version 2 takes its
    first columns whatever the start) and, where it ends too early, goes on with its last column;
    any other is padded in front with its first, as published.
    """
    field = field[:, None] if field.ndim == 1 else field
    found, wanted = field.shape[1], lags + steps
    if found <= wanted:
        return _padded(field, wanted - found, 0)
    ahead = min(max(lags + days - found, 0), lags)
    return fit_steps(_padded(field, ahead, 0), start, wanted)


def fit_steps(field, start, steps):
    """Columns of a map for a run of steps, float32 (grid, steps).

    A map that covers the days before the run too is cut at ``start``; one that ends too early goes
    on with its last column.

    Raises
    ------
    InputError
        If it may begin at the first day or at ``start``.
    """
    if start and start < field.shape[1] <= steps:
        raise InputError(
            f"a map of {field.shape[1]} days may begin at the first day or at step {start}, where "
            f"the {steps} days of the run begin; give maps of all days from the first on"
        )
    if field.shape[1] > steps:
        field = field[:, min(start, field.shape[1] - 1) :]
    return _padded(field, 0, max(steps - field.shape[1], 0))[:, :steps].copy()


def _padded(field, front, end):
    """A map with its first and last column repeated."""
    return np.pad(field, ((0, 0), (front, end)), "edge")
