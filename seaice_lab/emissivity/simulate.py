"""Simulated satellite observations of a known sea ice, in the published file layouts.

An ice edge that moves with the season and the weather, old ice north of Greenland and Canada or in
the Weddell Sea, snow, melt, leads; emissivities from a published table of ice types; a simple
atmosphere with clouds; the noise and the biases of the instruments. As the truth is known, an
estimate can be compared with it.
"""

from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import cKDTree

from seaice_lab import files, land, metadata, progress
from seaice_lab.emissivity import ice_types, physics
from seaice_lab.emissivity.layouts import CHANNELS, DAY_START, FIELDS, SCALARS
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG, instruments
from seaice_lab.errors import InputError

SIMULATED_AT_ONCE = 100_000  # observations
# Emissivity of the calm sea at 55 degrees, and the optical depth of the air at zenith: dry, and for
# 1 kg m-2 of water vapour and of cloud water; rounded, they give temperatures like observed ones.
SEA_GHZ = (6.9, 10.65, 18.7, 23.8, 36.5, 89.0, 166.0)
SEA_V = (0.56, 0.58, 0.615, 0.64, 0.69, 0.79, 0.83)
SEA_H = (0.28, 0.30, 0.32, 0.335, 0.36, 0.445, 0.505)
AIR_GHZ = (1.4, 6.9, 10.65, 18.7, 23.8, 31.4, 36.5, 50.3, 52.8, 89.0, 166.0, 183.3)
DRY_AIR = (0.01, 0.01, 0.011, 0.015, 0.02, 0.03, 0.04, 0.35, 1.2, 0.06, 0.03, 0.05)
VAPOUR = (0, 1e-4, 2e-4, 2e-3, 6e-3, 2e-3, 2.5e-3, 4e-3, 4e-3, 0.01, 0.03, 0.2)
CLOUD = (0, 0.01, 0.02, 0.06, 0.1, 0.17, 0.22, 0.4, 0.45, 1.0, 2.0, 2.2)
# Vapour near the water-vapour line at 183 GHz, by the distance from its centre in GHz.
VAPOUR_183 = {"7": 0.08, "3": 0.18, "1": 0.4}
CLOUD_WATER = 0.12  # kg m-2
# Increase of the sea's emissivity for 1 m s-1 of wind, and the share of it in the files.
WIND_V, WIND_H, WIND_SHARE = 6e-4, 2e-3, 0.8
# Units of the fields, of the others "1".
UNITS = {"TSFC": "K", "WINDSPEED10M": "m s-1", "ZENITH": "degree",
         "OBSVALUE": "K", "TDOWN": "K", "TUP": "K", "TDOWN_CLD": "K", "TUP_CLD": "K"}  # fmt: skip
DTYPES = {"JULIAN_DAY": "f8", "IGRID": "i4"}  # of the other fields: f4
SCATTER = 0.01  # of the emissivity from observation to observation
SHIFT_M = 150e3  # of the ice edge in a first guess
UNUSED_CHANNELS = 4  # 6 and 7 GHz, with which monthly files begin
# Variables of truth.nc, each with an attribute and its units.
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


def simulate(config, folder, show=True):
    """Simulate a case in a published layout, with the truth in ``truth.nc``.

    Parameters
    ----------
    config : SimulateConfig
    folder : str or Path
        Folder to create; existing files in it are replaced.
    show : bool
        Show progress.

    Returns
    -------
    Path
        The folder. ``truth.nc`` holds ``sic`` (grid, lagstep), ``old_ice_share``,
        ``new_ice_share``, ``snow_index`` and ``wet_index`` (grid, lagstep), and for each sensor
        ``sic_at_obs_<sensor>`` (obs) and ``ice_emissivity_<sensor>`` (obs, channel).

    Raises
    ------
    InputError
        If a sensor is unknown, or the counts do not match the sensors or the layout.
    """
    folder = Path(folder).expanduser()
    unified = instruments(config.sensors)
    sensors, counts = len(config.sensors), len(config.observations)
    if counts != sensors:
        raise InputError(f"observations: {counts} counts for {sensors} sensors; give one for each")
    if config.layout != "sensors" and sensors > 1:
        raise InputError(
            f"layout {config.layout}: holds one sensor, found {sensors}; use layout sensors"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(config.seed)
    truth = make_truth(config, rng)
    write_maps(config, truth, folder)
    at_observations = {}
    with progress.bar(sum(config.observations), f"simulate {folder.name}", "obs", show=show) as bar:
        for row in range(sensors):
            at_observations |= _simulate_sensor(config, truth, unified, row, rng, folder, bar)
    files.write_netcdf(folder / "truth.nc", truth[list(TRUTH_VARIABLES)].assign(at_observations))
    return folder


def first_julian_day(config):
    """Julian day on which the observations of the first day of a SimulateConfig begin."""
    return pd.Timestamp(config.start).to_julian_date() - (0.5 - DAY_START)


def make_truth(config, rng):
    """Draw the ice, the sea and the air of every day.

    Parameters
    ----------
    config : SimulateConfig
    rng : numpy.random.Generator

    Returns
    -------
    Dataset
        (grid, lagstep), of which column 0 is the day before the first.
    """
    x, y, latitude, longitude = _sea_points(config.size, config.hemisphere)
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
    sic = inside**2 * (3 - 2 * inside) * (1 - leads)
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
        "new_ice_share": np.clip(2 * waves(800, 20, rng=_second_rng(config)) - 1, 0, 1),
    }
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


def _sea_points(size, hemisphere):
    """x, y, latitude and longitude of all sea points, each (grid,); x and y in their own plane."""
    points = []
    for name in ("north", "south") if hemisphere == "both" else (hemisphere,):
        domain = land.polar_grid(size, name)
        axes = np.meshgrid(domain.x.values, domain.y.values)
        positions = np.stack([*axes, domain.latitude.values, domain.longitude.values])
        points.append(positions[:, domain.ocean.values])
    return np.concatenate(points, axis=1)


def _second_rng(config, *use):
    """Separate random numbers for other kinds of worlds, so that the default case is unchanged."""
    return np.random.default_rng((config.seed, 1, *use))


def ice_emissivity(truth, point, day, frequency_ghz, vertical, kind="table"):
    """True emissivity of the ice: first-year, old and melting ice, mixed by their shares.

    Scattering snow reduces it by up to 0.08 at 100 GHz.

    Parameters
    ----------
    truth : Dataset
        From :func:`make_truth`.
    point, day : ndarray of int (observation)
        Grid points, and columns of the truth.
    frequency_ghz : ndarray (channel)
    vertical : ndarray (observation, channel)
        Share of vertical polarisation.
    kind : str
        As ``ice`` of SimulateConfig; the scatter is not included.

    Returns
    -------
    ndarray (observation, channel)
    """
    old, snow, wet, new = (
        truth[name].values[point, day][:, None]
        for name in ("old_ice_share", "snow_index", "wet_index", "new_ice_share")
    )
    if kind == "formula":
        opacity = 1 - np.exp(-frequency_ghz / 40)  # scattering grows with the frequency
        dry = 0.95 - 0.15 * old * opacity - 0.1 * snow * opacity**2 - 0.09 * (1 - vertical)
        return dry + wet * (0.96 - 0.04 * (1 - vertical) - dry)
    first_year, old_ice, melting, new_ice = (
        ice_types.type_emissivity([name], frequency_ghz, vertical)
        for name in (ice_types.FIRST_YEAR, ice_types.OLD, ice_types.MELTING, ice_types.NEW)
    )
    dry = (1 - old) * first_year + old * old_ice
    if kind == "new_type":
        dry = (1 - new) * dry + new * new_ice
    dry = dry - 0.08 * snow * np.minimum(frequency_ghz / 100, 1.2)
    return (1 - wet) * dry + wet * melting


def _simulate_sensor(config, truth, unified, row, rng, folder, bar):
    """Write the observations of one sensor; returns the truth at the observations."""
    sensor, count = config.sensors[row], config.observations[row]
    channels = [unified.channels[position] for position in unified.positions[row]]
    first = first_julian_day(config)
    # the first and the last day always have observations
    middle = _second_rng(config).permutation(np.arange(1, config.days - 1))
    days = np.delete(np.arange(config.days), middle[: round(config.missing * len(middle))])
    position = rng.random(count) * len(days)
    whole = position.astype(int)
    times = np.sort(first + (days[whole] + (position - whole)))
    times[0] = first + 1e-6  # so that the first day is step 0 for every sensor
    truths = []
    with _create_files(config, folder, sensor, len(channels), count) as variables:
        for begin in range(0, count, SIMULATED_AT_ONCE):
            rows = slice(begin, min(begin + SIMULATED_AT_ONCE, count))
            fields, *true_values = _observe(config, truth, unified, row, times[rows], rng)
            for name, values in fields.items():
                if config.layout == "month" and values.ndim == 2:
                    values = np.pad(values, ((0, 0), (UNUSED_CHANNELS, 0)), "edge")
                variables[name][rows] = values
            truths.append(true_values)
            bar.update(rows.stop - rows.start)
    ice_fraction, emissivity = (np.concatenate(values) for values in zip(*truths, strict=True))
    obs, channel = f"obs_{sensor}", f"channel_{sensor}"
    attributes = {"long_name": "Emissivity of the ice", "units": "1"}
    return {
        f"sic_at_obs_{sensor}": (obs, ice_fraction, {"units": "1"}),
        f"ice_emissivity_{sensor}": ((obs, channel), emissivity, attributes),
        f"channel_name_{sensor}": (channel, channels),
    }


def _observe(config, truth, unified, row, times, rng):
    """Some observations of one sensor: fields by name, concentration, emissivity of the ice."""
    positions = list(unified.positions[row])
    channels = [unified.channels[position] for position in positions]
    frequency, error = unified.frequency_ghz[row, positions], unified.error_k[row, positions]
    count = len(times)
    day = np.floor(times - first_julian_day(config)).astype(int) + 1  # column 0 is the day before
    point = rng.integers(0, truth.sizes["grid"], count)

    def at_observations(name, day=day):
        return truth[name].values[point, day].astype("float64")[:, None]

    ice_fraction = 0.6 * at_observations("sic") + 0.4 * at_observations("sic", day - 1)
    scan_position = rng.integers(1, 31 if unified.crosstrack[row] else 200, count)
    vertical, zenith = _geometry(unified, row, scan_position)
    second = _second_rng(config, row, int(1e3 * times[0]))
    ice = ice_emissivity(truth, point, day, frequency, vertical, config.ice)
    ice = ice + SCATTER * (config.ice == "scatter") * second.standard_normal(ice.shape)
    wind = at_observations("wind_speed")
    calm_sea = ice_types.mix(vertical, *ice_types.interpolate(frequency, SEA_GHZ, SEA_V, SEA_H))
    wind_effect = ice_types.mix(vertical, WIND_V, WIND_H) * wind
    cloud = at_observations("cloud_fraction") + 0.15 * rng.standard_normal((count, 1))
    cloud = np.clip(cloud, 0, 1)
    slant = 1 / np.cos(np.radians(zenith))[:, None]
    clear, cloudy = (
        _sky(channels, frequency, slant, at_observations, water) for water in (0.0, CLOUD_WATER)
    )
    sky = physics.all_sky(clear, cloudy, cloud)
    skin, sea = at_observations("tsfc"), calm_sea + wind_effect
    water_k = physics.water_temperature(skin)
    tb = physics.brightness_temperature(ice_fraction, ice, sea, skin, water_k, sky)
    of_ice, of_ocean = unified.bias_k[:, row]
    if config.largest_bias_k is not None:
        biases = _second_rng(config, row).uniform(0, config.largest_bias_k, len(positions))
        of_ice = of_ocean = biases
    tb += ice_fraction * of_ice + (1 - ice_fraction) * of_ocean
    tb += config.noise * error * rng.standard_normal(tb.shape)
    tb[second.random(tb.shape) < config.missing] = np.nan
    cloud = np.clip(cloud + config.cloud_error * second.standard_normal(cloud.shape), 0, 1)
    scalars = (skin, wind, cloud, scan_position[:, None], zenith[:, None])
    fields = {"JULIAN_DAY": times, "IGRID": point}
    fields |= {name: values[:, 0] for name, values in zip(SCALARS, scalars, strict=True)}
    # the model is given a part of the effect of wind; the rest is what it has to learn
    by_channel = (tb, calm_sea + WIND_SHARE * wind_effect, *clear, *cloudy)
    fields |= dict(zip(CHANNELS, by_channel, strict=True))
    return fields, ice_fraction[:, 0].astype("float32"), ice.astype("float32")


def _geometry(unified, row, scan_position):
    """Shares of vertical polarisation and zenith angles of the observations of one sensor."""
    vertical = unified.vertical[list(unified.positions[row])]
    if not unified.crosstrack[row]:
        zenith = np.full(len(scan_position), CONICAL_ZENITH_DEG)
        return np.broadcast_to(vertical, (len(zenith), len(vertical))), zenith
    angle = -unified.first_angle_deg[row] + (scan_position - 1) * unified.angle_step_deg[row]
    return physics.vertical_share(vertical, angle[:, None]), 1.1 * angle


def _sky(channels, frequency, slant, at_observations, cloud_water):
    """Transmittance, downwelling and upwelling of a sky with some cloud water (kg m-2)."""
    dry, vapour, cloud = ice_types.interpolate(frequency, AIR_GHZ, DRY_AIR, VAPOUR, CLOUD)
    for position, name in enumerate(channels):
        if "pm" in name:
            vapour[position] = VAPOUR_183[name.split("pm")[1][0]]
    depth = dry + vapour * at_observations("vapour") + cloud * cloud_water
    transmittance = np.exp(-slant * depth)
    air = at_observations("air_temperature")
    return transmittance, (1 - transmittance) * air, (1 - transmittance) * (air - 4)


@contextmanager
def _create_files(config, folder, sensor, channels, count):
    """Create the files of one sensor in the layout; yields their variables by name."""
    by_month = config.layout == "month"
    sizes = {"obs": count, "channel": channels + UNUSED_CHANNELS * by_month}
    month = pd.Timestamp(config.start).strftime("%Y%m")
    by_path = {}
    for name in FIELDS:
        path = {
            "month": folder / f"{sensor}_v2_{month}.nc",
            "year": folder / f"field_v2_{name}.nc",
            "sensors": folder / sensor / f"{sensor}_{name}.nc",
        }[config.layout]
        dimensions = ("obs", "channel") if name in CHANNELS else ("obs",)
        attributes = {"units": UNITS.get(name, "1")}
        by_path.setdefault(path, {})[name] = (DTYPES.get(name, "f4"), dimensions, attributes)
    with ExitStack() as stack:
        variables = {}
        for path, definitions in by_path.items():
            file = stack.enter_context(files.create_netcdf(path, sizes, definitions))
            variables |= {name: file[name] for name in definitions}
        yield variables


def write_maps(config, truth, folder):
    """Write the first guess, the skin temperature and the grid.

    Parameters
    ----------
    config : SimulateConfig
    truth : Dataset
        From :func:`make_truth`.
    folder : Path
    """
    months = truth.days.dt.month
    guess = truth.sic.groupby(months).mean("lagstep").sel(month=months)
    guess = guess.transpose("grid", "lagstep")
    if config.first_guess == "good":
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
