"""Satellite observations of a sea ice that is known, in the published file layouts.

An ice edge that moves with the season and the weather, old ice against Greenland and Canada, snow,
melt, leads; emissivities from a published table of ice types; a simple atmosphere with clouds; the
noise and the biases of the instruments. It answers what no real observation can: is it found?
"""

from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from seaice_lab import files, grid, names, progress, runs
from seaice_lab.config import Config
from seaice_lab.emissivity import physics
from seaice_lab.emissivity.ice_types import FIRST_YEAR, MELTING, OLD, ice_types
from seaice_lab.emissivity.layouts import CHANNELS, DAY_START
from seaice_lab.emissivity.sensors import ICE, OCEAN, instruments
from seaice_lab.errors import InputError

CHUNK = 100_000  # observations made together

# Calm sea at 55 degrees, and the optical depth of the air at zenith: dry, and by kg m-2 of vapour
# and of cloud water. Rounded values that give brightness temperatures like those observed.
SEA_GHZ = (6.9, 10.65, 18.7, 23.8, 36.5, 89.0, 166.0)
SEA_V = (0.56, 0.58, 0.615, 0.64, 0.69, 0.79, 0.83)
SEA_H = (0.28, 0.30, 0.32, 0.335, 0.36, 0.445, 0.505)
AIR_GHZ = (1.4, 6.9, 10.65, 18.7, 23.8, 31.4, 36.5, 50.3, 52.8, 89.0, 166.0, 183.3)
DRY = (0.01, 0.01, 0.011, 0.015, 0.02, 0.03, 0.04, 0.35, 1.2, 0.06, 0.03, 0.05)
VAPOUR = (0, 1e-4, 2e-4, 2e-3, 6e-3, 2e-3, 2.5e-3, 4e-3, 4e-3, 0.01, 0.03, 0.2)
CLOUD = (0, 0.01, 0.02, 0.06, 0.1, 0.17, 0.22, 0.4, 0.45, 1.0, 2.0, 2.2)
CLOUD_WATER = 0.12  # kg m-2
WIND_V, WIND_H = 6e-4, 2e-3  # rise of the sea's emissivity by m s-1; the model is told four fifths
SLANT = 1 / np.cos(np.radians(55))
UNITS = {"OBSVALUE": "K", "TSFC": "K", "TDOWN": "K", "TUP": "K", "TDOWN_CLD": "K", "TUP_CLD": "K",
         "WINDSPEED10M": "m s-1", "SCANPOS": "1", "ZENITH": "degree"}  # fmt: skip
KEPT = ["sic", "old_ice_share", "snow_index", "wet_index", "tsfc", "x", "y", "lat", "lon"]


class SimulateConfig(Config):
    """A case: where, how long, which sensors, how many observations of each, in which layout.

    ``layout`` "month" and "year" are those of version 1 (one sensor), "sensors" that of version 2.
    ``noise`` is the standard deviation of the instruments' noise in units of the assigned
    observation error; ``first_guess_error`` that of the first guess of concentration, beside its
    being a monthly mean.
    """

    layout: Literal["month", "year", "sensors"] = "sensors"
    sensors: tuple[str, ...] = ("amsr2", "gmi", "ssmisf17")
    observations: tuple[int, ...] = (40_000, 30_000, 30_000)
    size: int = Field(64, ge=16)
    days: int = Field(20, ge=1)
    start: str = "2021-03-01"
    noise: float = Field(0.35, ge=0)
    first_guess_error: float = Field(0.05, ge=0)
    seed: int = 0


def simulate(config, folder, show=True):
    """Make a case in a published layout, with ``truth.nc`` beside it.

    Parameters
    ----------
    config : SimulateConfig
    folder : str or Path
        Made; files in it are replaced.
    show : bool
        Show progress.

    Returns
    -------
    Path
        The folder. ``truth.nc`` holds ``sic`` (grid, lagstep), ``old_ice_share``, ``snow_index``
        and ``wet_index`` (grid, step), and for each sensor ``sic_at_obs_<sensor>`` (obs) and
        ``ice_emissivity_<sensor>`` (obs, channel).

    Raises
    ------
    InputError
        If a sensor is unknown, or the counts do not match the sensors or the layout.
    """
    folder = Path(folder)
    seen_by = instruments(config.sensors)
    if len(config.observations) != len(config.sensors):
        raise InputError(
            f"observations: found {len(config.observations)} counts for {len(config.sensors)} "
            "sensors; give one for each"
        )
    if config.layout != "sensors" and len(config.sensors) > 1:
        raise InputError(
            f"layout {config.layout}: holds one sensor, found {', '.join(config.sensors)}; use "
            "layout sensors"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(config.seed)
    truth = make_truth(config, rng)
    write_maps(config, truth, folder)
    known = {}
    total = sum(config.observations)
    with progress.bar(total, f"simulate {folder.name}", "obs", show=show) as bar:
        for row, (sensor, count) in enumerate(
            zip(config.sensors, config.observations, strict=True)
        ):
            known |= _simulate_sensor(config, truth, seen_by, row, sensor, count, folder, rng, bar)
    files.write_netcdf(folder / "truth.nc", truth[KEPT].assign(known))
    return folder


def make_truth(config, rng):
    """The ice, the sea and the air of every day, Dataset over grid, lagstep and step."""
    domain = grid.arctic_grid(config.size)
    ocean = domain.ocean.values
    x, y = (part[ocean] for part in np.meshgrid(domain.x.values, domain.y.values))
    latitude, longitude = domain.latitude.values[ocean], domain.longitude.values[ocean]
    days = pd.date_range(config.start, periods=config.days + 1) - pd.Timedelta("1D")
    day = np.arange(-1, config.days)[None]
    winter = np.cos(2 * np.pi * ((days[0].day_of_year + day + 1) - 55) / 365.25)

    def waves(length_km, life_days, count=24):
        """A smooth random field of unit variance, (grid, day)."""
        field = np.zeros((len(x), day.size), "float32")
        for _ in range(count):
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            k = 2 * np.pi / (length_km * 1e3 * rng.uniform(0.6, 1.6))
            pace = 2 * np.pi / (life_days * rng.uniform(0.6, 1.6)) * rng.choice([-1, 1])
            place = k * (np.cos(angle) * x + np.sin(angle) * y) + phase
            field += np.cos(place[:, None] + pace * day)
        return field * np.sqrt(2 / count)

    atlantic = np.exp(-((((longitude - 20 + 180) % 360 - 180) / 45) ** 2))[:, None]
    edge = 71.5 + 6.5 * atlantic - 5.5 * winter + 1.2 * waves(900, 12)
    inside = np.clip((latitude[:, None] - edge) / 4 + 0.4, 0, 1)
    sic = inside**2 * (3 - 2 * inside) * (1 - 0.12 * np.clip(waves(350, 6) - 0.2, 0, 1.5))
    cold = np.clip((latitude - 55) / 35, 0, 1)[:, None]
    ice_k = 268 - 7 * cold - (14 * cold + 2) * (winter - 0.2) + 2.5 * waves(1200, 5)
    ice_k = np.minimum(ice_k, 273.15)
    sea_k = np.maximum(271.35, 271.35 + 0.45 * (76 - latitude[:, None]) - 1.5 * winter)
    home = np.exp(-((x + 4e5) ** 2 + (y + 8e5) ** 2) / (1.0e6) ** 2)[:, None]
    old = np.clip(1.3 * home + 0.2 * waves(700, 60), 0, 1)
    snow = np.clip(0.5 + 0.3 * waves(500, 15), 0, 1)
    wet = np.clip((ice_k - 271.5) / 1.5, 0, 1)
    air_k = 0.5 * ice_k + 0.5 * sea_k - 12
    vapour = np.clip(6 - 4 * winter - 3 * cold + 1.5 * waves(1500, 3), 1, None)
    cloudy = np.clip(0.45 + 0.3 * waves(800, 2), 0, 1)
    wind = np.abs(7 + 3 * waves(1500, 3))
    both = ("grid", "lagstep")
    truth = xr.Dataset({
        "sic": (both, sic, {"standard_name": "sea_ice_area_fraction", "units": "1",
                            "comment": "column 0 is the day before step 0"}),
        "old_ice_share": (both, old, {"long_name": "Share of old ice", "units": "1"}),
        "snow_index": (both, snow, {"long_name": "Scattering snow, 0 to 1", "units": "1"}),
        "wet_index": (both, wet, {"long_name": "Melting surface, 0 to 1", "units": "1"}),
        "tsfc": (both, sic * ice_k + (1 - sic) * sea_k,
                 {"standard_name": "surface_temperature", "units": "K"}),
        "air_temperature": (both, air_k), "vapour": (both, vapour),
        "cloud_fraction": (both, cloudy), "wind_speed": (both, wind),
        "x": ("grid", x, {"standard_name": "projection_x_coordinate", "units": "m"}),
        "y": ("grid", y, {"standard_name": "projection_y_coordinate", "units": "m"}),
        "lat": ("grid", latitude, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": ("grid", longitude, {"standard_name": "longitude", "units": "degrees_east"}),
        "guess_noise": (both, waves(400, 40)),
    }).astype("float32").assign(days=("lagstep", days))  # fmt: skip
    truth.attrs = {"Conventions": names.CONVENTIONS, "title": "Truth of simulated observations",
                   "history": f"{runs.now()} seaice-lab emissivity simulate"}  # fmt: skip
    return truth


def ice_emissivity(truth, point, day, frequency_ghz, vertical):
    """True emissivity of the ice at some places, (place, channel).

    First-year, old and melting ice of the table, mixed by their shares; scattering snow takes away
    up to 0.08 at 100 GHz.
    """
    old, snow, wet = (truth[name].values[point, day][:, None]
                      for name in ("old_ice_share", "snow_index", "wet_index"))  # fmt: skip
    published = ice_types()

    def of_type(name, polarisation):
        emissivity = published.sel(type=name, polarisation=polarisation)
        return np.interp(np.log(frequency_ghz), np.log(emissivity.frequency), emissivity)

    first_year, old_ice, melting = (
        vertical * of_type(name, "V") + (1 - vertical) * of_type(name, "H")
        for name in (FIRST_YEAR, OLD, MELTING)
    )
    dry = (1 - old) * first_year + old * old_ice
    dry = dry - 0.08 * snow * np.minimum(frequency_ghz / 100, 1.2)
    return (1 - wet) * dry + wet * melting


def _simulate_sensor(config, truth, seen_by, row, sensor, count, folder, rng, bar):
    """Write the observations of one sensor; returns what is true at them."""
    places = list(seen_by.positions[row])
    channels = [seen_by.channels[place] for place in places]
    frequency, error = seen_by.frequency_ghz[row, places], seen_by.error_k[row, places]
    bias = seen_by.bias_k[:, row]
    first = pd.Timestamp(config.start).to_julian_date() - (0.5 - DAY_START)
    time = np.sort(first + rng.random(count) * config.days)
    time[0] = first + 1e-6  # so that the first day is the first step whatever the sensor
    sink = _Sink(config.layout, folder, sensor, channels, count, config.start)
    sic_seen, emissivity = np.empty(count, "float32"), np.empty((count, len(places)), "float32")
    for begin in range(0, count, CHUNK):
        there = slice(begin, min(begin + CHUNK, count))
        day = np.floor(time[there] - first).astype(int) + 1  # column 0 is the day before
        n = len(day)
        point = rng.integers(0, truth.sizes["grid"], n)

        def at(name, day=day, point=point):
            return truth[name].values[point, day].astype("float64")[:, None]

        sic = 0.6 * at("sic") + 0.4 * at("sic", day=day - 1)
        position = rng.integers(1, 31, n) if seen_by.crosstrack[row] else rng.integers(1, 200, n)
        angle = -seen_by.first_angle_deg[row] + (position - 1) * seen_by.angle_step_deg[row]
        vertical = np.broadcast_to(seen_by.vertical[places], (n, len(places)))
        slant, zenith = SLANT, np.full(n, 55.0)
        if seen_by.crosstrack[row]:
            vertical = physics.vertical_share(vertical, angle[:, None])
            zenith = 1.1 * angle
            slant = 1 / np.cos(np.radians(zenith))[:, None]
        ice = ice_emissivity(truth, point, day, frequency, vertical)
        calm = vertical * np.interp(np.log(frequency), np.log(SEA_GHZ), SEA_V)
        calm = calm + (1 - vertical) * np.interp(np.log(frequency), np.log(SEA_GHZ), SEA_H)
        rise = (vertical * WIND_V + (1 - vertical) * WIND_H) * at("wind_speed")
        clear, cloudy, cloud = _sky(channels, frequency, at, slant, rng)
        skin = at("tsfc")
        tb = physics.brightness_temperature(
            sic, ice, calm + rise, skin, physics.water_temperature(skin),
            *physics.all_sky(clear, cloudy, cloud),
        )  # fmt: skip
        tb += sic * bias[ICE] + (1 - sic) * bias[OCEAN]
        tb += config.noise * error * rng.standard_normal(tb.shape)
        sic_seen[there], emissivity[there] = sic[:, 0], ice
        sink.write(there, {
            "JULIAN_DAY": time[there], "IGRID": point, "TSFC": skin[:, 0],
            "WINDSPEED10M": at("wind_speed")[:, 0], "CLOUD_FRACTION": cloud[:, 0],
            "SCANPOS": position, "ZENITH": zenith, "OBSVALUE": tb,
            "EMIS_WATER": calm + 0.8 * rise, "TAUSFC": clear[0], "TDOWN": clear[1],
            "TUP": clear[2], "TAUSFC_CLD": cloudy[0], "TDOWN_CLD": cloudy[1],
            "TUP_CLD": cloudy[2],
        })  # fmt: skip
        bar.update(n)
    sink.close()
    return {
        f"sic_at_obs_{sensor}": (f"obs_{sensor}", sic_seen, {"units": "1"}),
        f"ice_emissivity_{sensor}": ((f"obs_{sensor}", f"channel_{sensor}"), emissivity,
                                     {"long_name": "Emissivity of the ice", "units": "1"}),
        f"channel_name_{sensor}": (f"channel_{sensor}", channels),
    }  # fmt: skip


def _sky(channels, frequency, at, slant, rng):
    """Clear and cloudy (transmittance, downwelling, upwelling), and the cloud fraction."""
    dry, vapour, cloud = (
        np.interp(np.log(frequency), np.log(AIR_GHZ), table) for table in (DRY, VAPOUR, CLOUD)
    )
    # the wings of the water-vapour line at 183 GHz, by distance from its centre
    wing = {"7": 0.08, "3": 0.18, "1": 0.4}
    vapour = np.array([wing[name.split("pm")[1][0]] if "pm" in name else value
                       for name, value in zip(channels, vapour, strict=True)])  # fmt: skip
    fraction = np.clip(at("cloud_fraction") + 0.15 * rng.standard_normal(at("tsfc").shape), 0, 1)
    air = at("air_temperature")
    skies = []
    for water in (0.0, CLOUD_WATER):
        through = np.exp(-slant * (dry + vapour * at("vapour") + cloud * water))
        skies.append((through, (1 - through) * air, (1 - through) * (air - 4)))
    return *skies, fraction


class _Sink:
    """The files of one sensor, open for writing piece by piece."""

    def __init__(self, layout, folder, sensor, channels, count, start):
        self.layout, self.files, self.fields = layout, [], {}
        month = pd.Timestamp(start).strftime("%Y%m")
        one = {"JULIAN_DAY", "IGRID", "TSFC", "WINDSPEED10M", "CLOUD_FRACTION", "SCANPOS", "ZENITH"}
        # monthly files begin with four channels (6 and 7 GHz) that are not used
        self.unused = 4 if layout == "month" else 0
        for name in (*sorted(one), *CHANNELS):
            if layout != "month" or not self.files:
                path = {
                    "month": folder / f"{sensor}_v2_{month}.nc",
                    "year": folder / f"field_v2_{name}.nc",
                    "sensors": folder / sensor / f"{sensor}_{name}.nc",
                }[layout]
                path.parent.mkdir(exist_ok=True)
                file = netCDF4.Dataset(path, "w")
                file.createDimension("obs", count)
                file.createDimension("channel", len(channels) + self.unused)
                self.files.append(file)
            kind = {"JULIAN_DAY": "f8", "IGRID": "i4"}.get(name, "f4")
            dimensions = ("obs",) if name in one else ("obs", "channel")
            variable = self.files[-1].createVariable(name, kind, dimensions)
            variable.units = UNITS.get(name, "1")
            self.fields[name] = variable

    def write(self, there, values):
        for name, value in values.items():
            if value.ndim == 2 and self.unused:
                value = np.concatenate([np.repeat(value[:, :1], self.unused, 1), value], 1)
            self.fields[name][there] = value

    def close(self):
        for file in self.files:
            file.close()


def write_maps(config, truth, folder):
    """The first guess, the skin temperature and the grid, beside the observations."""
    sic = truth.sic
    months = truth.days.dt.month
    guess = sic.groupby(months).mean("lagstep").sel(month=months).transpose("grid", "lagstep")
    guess = (guess + config.first_guess_error * truth.guess_noise).clip(0, 1)
    position = {"LAT": ("LON", truth.lat.values, truth.lat.attrs),
                "LON": ("LON", truth.lon.values, truth.lon.attrs)}  # fmt: skip
    month = pd.Timestamp(config.start).strftime("%Y%m")
    ends = (month, month) if config.layout == "month" else ("initials_year", "year")
    infix = ("", "dailyx_") if config.layout == "month" else ("", "")
    suffix = "" if config.layout == "month" else "_dailyx"
    maps = {
        f"ifs_seaice_{infix[0]}{ends[0]}.nc": ("SEAICE", guess.values, "1"),
        f"ifs_tsfc_{infix[1]}{ends[1]}{suffix}.nc": ("TSFC", truth.tsfc.values[:, 1:], "K"),
    }
    for name, (variable, values, units) in maps.items():
        field = (("LON", "DAY"), values.astype("float32"), {"units": units})
        files.write_netcdf(folder / name, xr.Dataset({variable: field} | position))
    points = {name: ("points", truth[name].values, truth[name].attrs)
              for name in ("lat", "lon", "x", "y")}  # fmt: skip
    files.write_netcdf(folder / "grid.nc", xr.Dataset(points))
