"""The ice, the sea and the air of simulated satellite observations, drawn at random or given."""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import cKDTree

from seaice_lab import files, land, metadata
from seaice_lab.errors import InputError

SHIFT_M = 150e3  # displacement of the ice edge in the first guess shifted_edge
# Variables of truth.nc: name and value of an attribute, and units.
TRUTH_VARIABLES = {
    "sic": ("standard_name", "sea_ice_area_fraction", "1"),
    "old_ice_share": ("long_name", "Share of old ice", "1"),
    "new_ice_share": ("long_name", "Share of new ice", "1"),
    "snow_index": ("long_name", "Scattering snow, 0 to 1", "1"),
    "wet_index": ("long_name", "Melting surface, 0 to 1", "1"),
    "tsfc": ("standard_name", "surface_temperature", "K"),
    "x": ("standard_name", "projection_x_coordinate", "m"),
    "y": ("standard_name", "projection_y_coordinate", "m"),
    "lat": ("standard_name", "latitude", "degrees_north"),
    "lon": ("standard_name", "longitude", "degrees_east"),
}


def make_truth(config, rng, ice=None):
    """Draw the ice, the sea and the air of every day at random, or take the given ice.

    Parameters
    ----------
    config : SimulateConfig
    rng : numpy.random.Generator
    ice : xarray.Dataset, optional
        Ice of another model: ``sic`` and ``first_guess`` (grid, lagstep), concentrations from 0 to
        1, and the positions ``x``, ``y`` (metres), ``lat`` and ``lon`` (degrees) of its grid
        points. Without it, the concentration and the grid are drawn as the configuration says.

    Returns
    -------
    Dataset
        (grid, lagstep), of which column 0 is the day before the first.

    Raises
    ------
    InputError
        If the given ice does not have ``days`` + 1 columns, or has concentrations that are missing
        or outside 0 to 1.
    """
    x, y, latitude, longitude = _points(config, ice)
    south, poleward = latitude[:, None] < 0, np.abs(latitude[:, None])
    days = pd.date_range(config.start, periods=config.days + 1) - pd.Timedelta("1D")
    day = np.arange(-1, config.days)[None]
    # 1 at the maximum of the ice, in the north on 24 February, and -1 half a year later
    winter = np.cos(2 * np.pi * ((days[0].day_of_year + day + 1) - 55) / 365.25)
    winter = np.where(south, -winter, winter)

    def waves(length_km, period_days, count=24, rng=rng):
        """A smooth random field of unit variance, (grid, day): a sum of travelling waves."""
        field = np.zeros((len(x), day.size), "float32")
        for _ in range(count):
            direction, phase = rng.uniform(0, 2 * np.pi, 2)
            wavenumber = 2 * np.pi / (length_km * 1e3 * rng.uniform(0.6, 1.6))
            frequency = 2 * np.pi / (period_days * rng.uniform(0.6, 1.6)) * rng.choice([-1, 1])
            in_space = wavenumber * (np.cos(direction) * x + np.sin(direction) * y) + phase
            field += np.cos(in_space[:, None] + frequency * day)
        return field * np.sqrt(2 / count)

    # the ice edge: farther north in the Atlantic sector and in summer
    atlantic = np.exp(-((((longitude - 20 + 180) % 360 - 180) / 45) ** 2))[:, None]
    mean_edge = np.where(south, 65 - 4 * winter, 71.5 + 6.5 * atlantic - 5.5 * winter)
    edge = mean_edge + 1.2 * waves(900, 12)
    inside = np.clip((poleward - edge) / 4 + 0.4, 0, 1)
    leads = 0.12 * np.clip(waves(350, 6) - 0.2, 0, 1.5)
    sic = inside**2 * (3 - 2 * inside) * (1 - leads) if ice is None else ice.sic.values
    cold = np.clip((poleward - 55) / 35, 0, 1)
    ice_k = 268 - 7 * cold - (14 * cold + 2) * (winter - 0.2) + 2.5 * waves(1200, 5)
    ice_k = np.minimum(ice_k, 273.15)
    sea_k = np.maximum(271.35, 271.35 + 0.45 * (np.where(south, 66, 76) - poleward) - 1.5 * winter)
    old_x, old_y = np.where(south[:, 0], -1.6e6, -4e5), np.where(south[:, 0], 1.3e6, -8e5)
    near_old = np.exp(-((x - old_x) ** 2 + (y - old_y) ** 2) / (1.0e6) ** 2)[:, None]
    fields = {
        "sic": sic,
        "old_ice_share": np.clip(1.3 * near_old + 0.2 * waves(700, 60), 0, 1),
        "snow_index": np.clip(0.5 + 0.3 * waves(500, 15), 0, 1),
        "wet_index": np.clip((ice_k - 271.5) / 1.5, 0, 1),
        "tsfc": sic * ice_k + (1 - sic) * sea_k,
        "air_temperature": 0.5 * ice_k + 0.5 * sea_k - 12,
        "vapour": np.clip(6 - 4 * winter - 3 * cold + 1.5 * waves(1500, 3), 1, None),
        "cloud_fraction": np.clip(0.45 + 0.3 * waves(800, 2), 0, 1),
        "wind_speed": np.abs(7 + 3 * waves(1500, 3)),
        "guess_noise": waves(400, 40),
        "new_ice_share": np.clip(2 * waves(800, 20, rng=separate_rng(config)) - 1, 0, 1),
    }
    if ice is not None:
        fields["first_guess"] = ice.first_guess.values
    fields |= {"x": x, "y": y, "lat": latitude, "lon": longitude}
    dims = ("grid", "lagstep")
    truth = xr.Dataset({name: (dims[: values.ndim], values) for name, values in fields.items()})
    truth = truth.astype("float32")
    for name, (attribute, value, units) in TRUTH_VARIABLES.items():
        truth[name].attrs = {attribute: value, "units": units}
    truth.sic.attrs["comment"] = "column 0 is the day before step 0"
    title, source = "Truth of simulated observations", "seaice_lab.emissivity.simulate"
    truth.attrs = metadata.file_attributes(title, source, "emissivity simulate")
    return truth.assign(days=("lagstep", days))


def check_ice(ice, days):
    """Refuse ice of another model that is not complete.

    Parameters
    ----------
    ice : xarray.Dataset
        As in :func:`make_truth`.
    days : int

    Raises
    ------
    InputError
        If it does not have ``days`` + 1 columns, or concentrations (true or of the first guess) are
        missing or outside 0 to 1.
    """
    values = np.stack([ice.sic.values, ice.first_guess.values])
    low, high = values.min(), values.max()
    if ice.sizes["lagstep"] != days + 1 or not (low >= 0 and high <= 1):
        raise InputError(
            f"ice: found {ice.sizes['lagstep']} days with concentrations from {low:g} to {high:g}, "
            f"expected {days + 1} days, the first of them before the observations, with "
            "concentrations from 0 to 1; give other days or correct the setting days"
        )


def _points(config, ice):
    """x, y, latitude and longitude of the points of the grid, each (grid,)."""
    if ice is None:
        return _sea_points(config.size, config.hemisphere)
    check_ice(ice, config.days)
    return [ice[name].values for name in ("x", "y", "lat", "lon")]


def _sea_points(size, hemisphere):
    """x, y, latitude and longitude of all sea points, each (grid,); x, y in the plane of a pole."""
    points = []
    for name in ("north", "south") if hemisphere == "both" else (hemisphere,):
        domain = land.polar_grid(size, name)
        axes = np.meshgrid(domain.x.values, domain.y.values)
        positions = np.stack([*axes, domain.latitude.values, domain.longitude.values])
        points.append(positions[:, domain.ocean.values])
    return np.concatenate(points, axis=1)


def separate_rng(config, *use):
    """Generator for one option of a case, so that the default case stays the same.

    Parameters
    ----------
    config : SimulateConfig
    *use : int
        Integers that identify the option, such as the row of a channel.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng((config.seed, 1, *use))


def write_maps(config, truth, folder):
    """Write the first guess, the skin temperature and the grid.

    Parameters
    ----------
    config : SimulateConfig
    truth : Dataset
        From :func:`make_truth`. The first guess of given ice replaces the one of the configuration.
    folder : Path
    """
    months = truth.days.dt.month
    guess = truth.sic.groupby(months).mean("lagstep").sel(month=months)
    guess = guess.transpose("grid", "lagstep")
    if "first_guess" in truth:
        guess = truth.first_guess
    elif config.first_guess == "good":
        guess = truth.sic
    elif config.first_guess == "low_closed_ice":
        guess = 0.9 * guess
    elif config.first_guess == "shifted_edge":
        hemisphere = 1e9 * np.sign(truth.lat.values)  # keeps the planes of the poles apart
        positions = np.stack([truth.x.values, truth.y.values, hemisphere], 1)
        moved = positions + [SHIFT_M, 0, 0]
        guess = guess.copy(data=guess.values[cKDTree(positions).query(moved)[1]])
    guess = guess + config.first_guess_error * truth.guess_noise
    endings = ("initials_year", "year_dailyx")
    if config.layout == "month":
        month = pd.Timestamp(config.start).strftime("%Y%m")
        endings = (month, f"dailyx_{month}")
    maps = {
        f"ifs_seaice_{endings[0]}.nc": ("SEAICE", guess.clip(0, 1).values, "1"),
        f"ifs_tsfc_{endings[1]}.nc": ("TSFC", truth.tsfc.values[:, 1:], "K"),
    }
    for file_name, (variable, values, units) in maps.items():
        field = (("LON", "DAY"), values.astype("float32"), {"units": units})
        dataset = xr.Dataset({variable: field})
        for name in ("lat", "lon"):
            dataset[name.upper()] = ("LON", truth[name].values, truth[name].attrs)
        files.write_netcdf(folder / file_name, dataset)
    points = truth[["lat", "lon", "x", "y"]].rename(grid="points").drop_attrs(deep=False)
    files.write_netcdf(folder / "grid.nc", points)
