"""Mutated inputs of a preparation: NetCDF files, the catalogue, and values of settings.

A mutation changes the working folder and returns ``(name, truth)`` as in :mod:`mutations`. The
truth SHOWN means that the store must show what the files hold now.
"""

import sys
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
import yaml

EQUAL, REFUSED, SHOWN = "equal", "refused", "shown"
COMMAND = ("prepare", "s.zarr", "-p", "state=moorings", "-p", "forcing=era5")
STATE, FORCING = "data/Moorings_2010m01.nc", "data/era5/era5_2010m01.nc"
CATALOGUE = "data_catalog.yaml"
COMMON = {"grid": "any", "step_h": 6, "licence": "CC0", "source": "made"}
ENTRIES = {
    "moorings": {
        "title": "Small sea",
        "format": "nextsim",
        "paths": ["Moorings_2010m01.nc"],
        "variables": {"sit": "sit"},
        "splits": {
            "train": {"period": ["2010-01-01", "2010-01-03"]},
            "validation": {"period": ["2010-01-04", "2010-01-04"]},
            "test": {"period": ["2010-01-05", "2010-01-06"]},
        },
    }
    | COMMON,
    "era5": {
        "title": "Small weather",
        "format": "era5",
        "paths": ["era5/era5_2010m01.nc"],
        "variables": {"t2m": "t2m", "u10": "u10", "v10": "v10"},
    }
    | COMMON,
}


def rewrite(path, edit):
    """Replace a NetCDF file by what ``edit`` makes of its dataset."""
    with xr.open_dataset(path) as dataset:
        changed = edit(dataset.load())
    changed.to_netcdf(path)


def pick(rng, *values):
    """One of some values."""
    return values[rng.integers(len(values))]


def damage_bytes(path, rng):
    """Flip a bit, or cut or blank bytes of a file."""
    content = bytearray(Path(path).read_bytes())
    first, size = int(rng.integers(len(content))), int(2 ** rng.integers(0, 13))
    kind = pick(rng, "flip", "cut", "blank")
    if kind == "cut":
        content = content[:first]
    elif kind == "blank":
        content[first : first + size] = bytes(min(size, len(content) - first))
    else:
        content[first] ^= 1 << int(rng.integers(8))
    Path(path).write_bytes(content)


def damage_file(rng):
    """Damage bytes of a NetCDF file."""
    path = pick(rng, STATE, FORCING)
    damage_bytes(path, rng)
    return path, SHOWN


def change_dimensions(rng):
    """Turn, rename or add dimensions."""
    path = pick(rng, STATE, FORCING)
    kind = pick(rng, "turn", "rename", "one", "two")
    axes = (
        {"y": "rows", "x": "columns"} if path == STATE else {"longitude": "lon", "latitude": "lat"}
    )
    if kind == "turn":
        rewrite(path, lambda d: d.transpose(*rng.permutation(list(d.dims))))
    elif kind == "rename":
        rewrite(path, lambda d: d.rename(axes))
    else:
        rewrite(path, lambda d: d.expand_dims(member=np.arange(1 if kind == "one" else 2)))
    return path, REFUSED if kind == "two" else EQUAL


def change_attributes(rng):
    """Remove or replace an attribute."""
    path = pick(rng, STATE, FORCING)
    variable = pick(rng, *(("sit", "latitude") if path == STATE else ("t2m", "u10")))
    key = pick(rng, "units", "long_name", "standard_name", "comment")
    value = pick(rng, None, "", "parsec", "\u00e9\u00df", 7)

    def edit(dataset):
        dataset[variable].attrs.pop(key, None)
        if value is not None:
            dataset[variable].attrs[key] = value
        return dataset

    rewrite(path, edit)
    return path, EQUAL


def change_units(rng):
    """Keep the meaning of the values in another unit."""
    path, variable, unit, factor, offset = pick(
        rng,
        (STATE, "sit", "cm", 100, 0),
        (STATE, "sit", "mm", 1000, 0),
        (FORCING, "t2m", "degC", 1, -273.15),
        (FORCING, "u10", "km h-1", 3.6, 0),
    )

    def edit(dataset):
        field = dataset[variable]
        dataset[variable] = (field * factor + offset).assign_attrs(field.attrs | {"units": unit})
        return dataset

    rewrite(path, edit)
    return path, EQUAL


def change_values(rng):
    """Put a value, or a record of values, that is possible or impossible."""
    path, variable = pick(rng, (STATE, "sit"), (FORCING, "t2m"), (FORCING, "u10"))
    value = pick(rng, np.nan, np.inf, -1e4, 1e20, None)
    record = int(rng.integers(24))

    def edit(dataset):
        values = dataset[variable].values
        if value is None:
            values[record] += 0.25
        else:
            values[record] = value
        return dataset

    rewrite(path, edit)
    return path, SHOWN if value is None else REFUSED


def change_times(rng):
    """Repeat records, with equal or other values, turn or drop them."""
    path = pick(rng, STATE, FORCING)
    axis = "time" if path == STATE else "valid_time"
    kind = pick(rng, "turn", "repeat", "repeat otherwise", "drop")
    order, record = np.arange(24), rng.integers(1, 23)
    if kind == "turn":
        order = order[::-1]
    elif kind == "drop":
        order = np.delete(order, record)
    else:
        order = np.sort(np.append(order, record))

    def edit(dataset):
        dataset = dataset.isel({axis: order})
        if kind == "repeat otherwise":
            name = "sit" if path == STATE else "u10"
            dataset[name].values[record] += 0.125
        return dataset

    rewrite(path, edit)
    return path, REFUSED if kind in ("drop", "repeat otherwise") else EQUAL


def change_catalogue(rng):
    """Remove, misspell or replace a key of the catalogue, or damage its text."""
    with open(CATALOGUE) as file:
        entries = yaml.safe_load(file)
    name = pick(rng, "moorings", "era5")
    key = pick(rng, *entries[name])
    kind = pick(rng, "remove", "misspell", "replace", "text")
    if kind == "text":
        text = yaml.safe_dump(entries)
        at = int(rng.integers(len(text)))
        text = text[:at] + pick(rng, "\t", "{", ":", "*", "\x00", "'") + text[at + 1 :]
    else:
        value = entries[name].pop(key)
        if kind == "misspell":
            entries[name][key + "s"] = value
        elif kind == "replace":
            entries[name][key] = pick(rng, 7, [], {}, "text", None, True, -1.5)
        text = yaml.safe_dump(entries)
    with open(CATALOGUE, "w") as file:
        file.write(text)
    return CATALOGUE, EQUAL


def change_parameters(rng):
    """Give a setting a value of another kind."""
    name = pick(rng, "state", "forcing", "variables", "crop", "coarsen", "splits", "colour", "")
    value = pick(rng, "", "7", "-1", "nan", "[", "{a: b}", "@x", "*", "[0, 99, 0, 99]", "~", "text")
    sys.argv += ["-p", f"{name}={value}"]
    return name.removesuffix("s") or "parameter", EQUAL


def raw():
    """What the input files hold now, read by the NetCDF library alone."""
    values = {}
    for path in (STATE, FORCING):
        try:
            with netCDF4.Dataset(path) as file:
                for name, variable in file.variables.items():
                    values[f"{path} {name}"] = np.ma.filled(variable[:], np.nan)
        except Exception:
            values[path] = np.array("damaged")
    return values


def shows(fields, files):
    """Whether the fields of a store are those that the files hold."""
    sit = files.get(f"{STATE} sit")
    temperature = files.get(f"{FORCING} t2m")
    if sit is None or temperature is None or sit.shape != fields["sit"].shape:
        return False
    ocean = fields["ocean"]
    shown = np.array_equal(fields["sit"][:, ocean], sit[:, ocean].astype("f4"))
    times = zip(fields["t2m"], temperature, strict=True)
    return shown and all(np.isin(store, file.astype("f4")).all() for store, file in times)


def read_store():
    """The fields of the store that was made."""
    store = xr.open_zarr("s.zarr", consolidated=False, chunks=None).load()
    return {name: store[name].values for name in ("time", "ocean", "latitude", *store.data_vars)}


def make_base():
    """Write the catalogue and its files into the working folder."""
    cases = Path(__file__).parents[1] / "tests" / "data" / "cases" / "_base"
    Path("data/era5").mkdir(parents=True)
    for path in (STATE, FORCING):
        Path(path).write_bytes((cases / Path(path).name).read_bytes())
    Path(CATALOGUE).write_text(yaml.safe_dump(ENTRIES))


MUTATIONS = (
    damage_file,
    damage_file,
    change_dimensions,
    change_attributes,
    change_units,
    change_values,
    change_times,
    change_catalogue,
    change_parameters,
)
