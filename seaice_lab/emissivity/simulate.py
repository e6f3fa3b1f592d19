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

from seaice_lab import files, progress
from seaice_lab.emissivity import ice_types, physics
from seaice_lab.emissivity.layouts import CHANNELS, DAY_START, FIELDS, SCALARS
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG, instruments
from seaice_lab.emissivity.simulated_ice import (
    TRUTH_VARIABLES,
    make_truth,
    separate_rng,
    write_maps,
)
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
UNUSED_CHANNELS = 4  # 6 and 7 GHz, with which monthly files begin


def simulate(config, folder, show=True, ice=None):
    """Simulate a case in a published layout, with the truth in ``truth.nc``.

    Parameters
    ----------
    config : SimulateConfig
    folder : str or Path
        Folder to create; existing files in it are replaced.
    show : bool
        Show progress.
    ice : xarray.Dataset, optional
        Ice of another model to observe (see
        :func:`~seaice_lab.emissivity.simulated_ice.make_truth`); by default it is drawn.

    Returns
    -------
    Path
        The folder. ``truth.nc`` holds ``sic`` (grid, lagstep), ``old_ice_share``,
        ``new_ice_share``, ``snow_index`` and ``wet_index`` (grid, lagstep), and for each sensor
        ``sic_at_obs_<sensor>`` (obs) and ``ice_emissivity_<sensor>`` (obs, channel).

    Raises
    ------
    InputError
        If a sensor is unknown, the counts do not match the sensors or the layout, or the given
        ice does not have one concentration for each day and the day before the first.
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
    truth = make_truth(config, rng, ice)
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
    middle = separate_rng(config).permutation(np.arange(1, config.days - 1))
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
    second = separate_rng(config, row, int(1e3 * times[0]))
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
        biases = separate_rng(config, row).uniform(0, config.largest_bias_k, len(positions))
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
