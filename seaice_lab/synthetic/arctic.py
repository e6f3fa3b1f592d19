"""Synthetic Arctic and Antarctic: an idealised sea-ice model on the real coastline, for teaching.

Weather (permanent highs and lows, moving lows, red noise) drives drift, brittle damage, advection,
growth and melt of ice on a polar stereographic grid (EPSG:3413 in the north, EPSG:3976 in the
south). Each process is in its simplest honest form; the docstrings name the sources. The model is
not calibrated: its fields look and move like sea ice, but numbers about the real polar seas must
come from other data.
"""

from itertools import groupby
from pathlib import Path

import numpy as np
from scipy import ndimage

from seaice_lab import files, land, metadata, names, progress
from seaice_lab.errors import InputError
from seaice_lab.synthetic import climate, sea_ice
from seaice_lab.synthetic.climate import (
    FREEZING_C,
    day_of_northern_year,
    sea_temperature_c,
    winter_thickness,
)
from seaice_lab.synthetic.sea_ice import DAY_S, State, Weather

CORIOLIS, AIR_DENSITY = 1.43e-4, 1.3  # s-1, kg m-3
ICE_SHEET_COOLING = 25.0  # K, of the air over Antarctica, which is high and covered with ice
ICE_VARIABLES = ("sit", "sic", "snt", "siu", "siv", "damage")


def simulate(
    size=128, days=365, step_h=6, start="2001-01-01", seed=0, growth=True, hemisphere="north"
):
    """Run the model and yield a frame every ``step_h`` hours.

    Parameters
    ----------
    size : int
        Cells along each side.
    days, step_h : int
        Length of the run and interval of the frames.
    start : str
        Date of the first frame.
    seed : int
        Seed of the weather and of the weak spots of the ice; equal seeds give equal numbers.
    growth : bool
        If false, nothing freezes, melts or snows, and the ice volume is conserved.
    hemisphere : "north" or "south"
        The south has the Antarctic coastline, the seasons of the south, and winds and drift that
        the Coriolis force turns to the other side.

    Yields
    ------
    time : numpy.datetime64
    fields : dict of str to ndarray (y, x)
        ``sit``, ``sic``, ``snt``, ``siu``, ``siv``, ``damage``, ``t2m``, ``u10``, ``v10``, float32;
        ice is NaN on land.

    Raises
    ------
    InputError
        If the size, the length or the interval is not possible.
    """
    if days < 1 or step_h < 1 or 24 % step_h:
        raise InputError(
            f"days is {days} and step_h {step_h}; expected at least one day, and an interval that "
            "divides 24 h"
        )
    domain = land.polar_grid(size, hemisphere)
    ocean, dx = domain.ocean.values, land.DOMAIN_WIDTH_M[hemisphere] / size
    # In one step, ice of 1 m/s moves by at most a third of a cell.
    substeps = int(np.ceil(step_h * 3600 / min(0.33 * dx, 4 * 3600)))
    step_s = step_h * 3600 / substeps
    rng = np.random.default_rng(seed)
    cohesion = np.exp(0.3 * rng.standard_normal(ocean.shape))
    storms = Storms(domain, rng)
    time = np.datetime64(start, "s")
    state = first_state(domain, day_of_northern_year(time, hemisphere))
    turning = sea_ice.TURNING if hemisphere == "north" else sea_ice.TURNING.conjugate()
    weather = storms.at(time, state)
    # Two days bring the drift into balance and break the first leads.
    for _ in range(2 * int(DAY_S // step_s)):
        state = sea_ice.drift(state, weather, ocean, dx, step_s, cohesion, turning)
    for _ in range(days * 24 // step_h):
        yield time, output_fields(state, weather, ocean)
        for _ in range(substeps):
            time = time + np.timedelta64(round(step_s), "s")
            weather = storms.at(time, state)
            state = sea_ice.drift(state, weather, ocean, dx, step_s, cohesion, turning)
            state = sea_ice.transport(state, dx, step_s)
            if growth:
                day = day_of_northern_year(time, hemisphere)
                sun = max(np.sin(2 * np.pi * (day - 81) / 365), 0.0)
                climate_c = sea_temperature_c(domain, day)
                state = sea_ice.freeze_and_melt(state, weather, ocean, climate_c, sun, step_s)


def output_fields(state, weather, ocean):
    """The fields of one output time under the names of the project.

    Parameters
    ----------
    state : State
    weather : Weather
    ocean : ndarray of bool (y, x)
        True where sea.

    Returns
    -------
    dict of str to ndarray (y, x), float32
        Ice is NaN on land.
    """
    velocity = sea_ice.to_centres(state.velocity) * (state.concentration > 0.01)
    fields = {
        "sit": state.thickness,
        "sic": state.concentration,
        "snt": state.snow,
        "siu": velocity.real,
        "siv": velocity.imag,
        "damage": state.damage,
        "t2m": weather.air_k,
        "u10": weather.wind.real,
        "v10": weather.wind.imag,
    }
    return {
        name: np.where(ocean | (name not in ICE_VARIABLES), field, np.nan).astype("float32")
        for name, field in fields.items()
    }


def first_state(domain, day):
    """Ice of a winter: none where the sea is warm.

    Parameters
    ----------
    domain : xarray.Dataset
        From :func:`seaice_lab.land.polar_grid`.
    day : float
        From :func:`seaice_lab.synthetic.climate.day_of_northern_year`.

    Returns
    -------
    State
    """
    ocean = domain.ocean.values
    sea_c = sea_temperature_c(domain, day)
    cold = np.clip((FREEZING_C + 2.5 - sea_c) / 2.0, 0, 1) * ocean
    zero = np.zeros(ocean.shape, "float32")
    return State(
        thickness=cold * winter_thickness(domain),
        concentration=np.where(cold > 0.02, np.sqrt(cold), 0.0),
        snow=0.12 * cold,
        damage=0.3 * cold,
        ocean_c=np.maximum(sea_c, FREEZING_C),
        velocity=np.zeros(tuple(n + 1 for n in ocean.shape), "complex64"),
        stress=(zero, zero, zero),
    )


class Storms:
    """The weather: pressure of highs, moving lows and red noise, with its wind and temperature.

    The wind is geostrophic, reduced to 0.68 and turned 22 degrees towards low pressure by friction:
    to the left in the north, to the right in the south. Lows have a random depth (8-34 hPa),
    radius, track and life of 2-6 days.

    Parameters
    ----------
    domain : xarray.Dataset
        From :func:`seaice_lab.land.polar_grid`.
    rng : numpy.random.Generator
        Source of the random numbers.
    """

    low_count = 6

    def __init__(self, domain, rng):
        self.domain, self.rng = domain, rng
        self.hemisphere = climate.hemisphere(domain)
        self.x, self.y = climate.plane(domain)
        self.dx = float(domain.x[1] - domain.x[0])
        self.lows = [self._new_low(age=rng.uniform(0, 1)) for _ in range(self.low_count)]
        size = self.x.shape[0]
        k = np.hypot(np.fft.fftfreq(size, self.dx)[:, None], np.fft.rfftfreq(size, self.dx))
        self.red = 1 / (1 + (k * 1.8e6) ** 2) ** 1.5
        self.noise = [self._red_noise(), self._red_noise()]  # of pressure and of temperature
        self.time = None

    def at(self, time, state):
        """Move the weather on from the last time to this one.

        Parameters
        ----------
        time : numpy.datetime64
            Not before the last time.
        state : State
            The ice and the water under the air.

        Returns
        -------
        Weather
        """
        elapsed_s = 0.0 if self.time is None else (time - self.time) / np.timedelta64(1, "s")
        self.time = time
        if elapsed_s:
            # First-order autoregressive noise with a memory of 1.6 days.
            keep = np.exp(-elapsed_s / (1.6 * DAY_S))
            self.noise = [keep * n + np.sqrt(1 - keep**2) * self._red_noise() for n in self.noise]
        day = day_of_northern_year(time, self.hemisphere)
        winter = 0.5 + 0.5 * np.cos(2 * np.pi * (day - 30) / 365)
        pressure = climate.mean_pressure(self.domain, winter)
        warmth = np.zeros_like(pressure)
        for low, shape in self._move_lows(elapsed_s):
            pressure -= low["depth"] * (0.6 + 0.4 * winter) * shape
            warmth += low["depth"] / 4 * (0.3 + 0.7 * winter) * shape
        pressure = pressure + 4 * self.noise[0]
        return Weather(self._wind(pressure), 273.15 + self._air_c(day, winter, warmth, state))

    def _move_lows(self, elapsed_s):
        """Yield each low and its shape (y, x), 0 to 1. A new low replaces one that ends."""
        for number, low in enumerate(self.lows):
            low["age"] += elapsed_s / low["life_s"]
            if low["age"] >= 1:
                low = self.lows[number] = self._new_low()
            low["centre"] += low["velocity"] * elapsed_s
            distance = (self.x - low["centre"].real) ** 2 + (self.y - low["centre"].imag) ** 2
            yield low, np.exp(-distance / (2 * low["radius"] ** 2)) * np.sin(np.pi * low["age"])

    def _wind(self, pressure):
        """Wind at 10 m from the pressure in hPa: geostrophic, then friction and an upper limit."""
        slope_y, slope_x = np.gradient(100 * pressure, self.dx)
        sign = 1 if self.hemisphere == "north" else -1  # of the Coriolis parameter
        wind = (-slope_y + 1j * slope_x) / (AIR_DENSITY * sign * CORIOLIS)
        wind *= 0.68 * np.exp(sign * 1j * np.radians(22))
        speed = np.abs(wind)
        wind *= 24 * np.tanh(speed / 24) / np.maximum(speed, 1e-9)
        return wind

    def _air_c(self, day, winter, warmth, state):
        """Temperature at 2 m, degrees Celsius."""
        latitude = np.abs(self.domain.latitude.values)
        season = -np.cos(2 * np.pi * (day - 20) / 365)
        inland = -12.5 + 16.5 * season + (90 - latitude) * (0.28 + 0.12 * season)
        air = inland + warmth + (1 + 2.5 * winter) * self.noise[1]
        # Melting ice keeps the air near zero; open water pulls it to the sea temperature.
        ice = ndimage.uniform_filter(state.concentration, 3)
        over_ice = np.where(air > 0, 0.25 * air, air)
        over_sea = 0.45 * air + 0.55 * state.ocean_c
        ocean = self.domain.ocean.values
        over_land = air if self.hemisphere == "north" else air - ICE_SHEET_COOLING
        return np.where(ocean, ice * over_ice + (1 - ice) * over_sea, over_land)

    def _new_low(self, age=0.0):
        rng = self.rng
        direction = np.exp(2j * np.pi * rng.random())
        wider = land.DOMAIN_WIDTH_M[self.hemisphere] / land.DOMAIN_WIDTH_M["north"]
        return {
            "age": age,  # 0 to 1 in its life
            "centre": rng.uniform(0.2, 2.3) * 1e6 * wider * direction,
            "life_s": rng.uniform(2, 6) * DAY_S,
            "depth": rng.uniform(8, 34),  # hPa
            "radius": rng.uniform(2.2e5, 4.8e5),
            "velocity": rng.uniform(2, 11) * np.exp(2j * np.pi * rng.random()),
        }

    def _red_noise(self):
        shape = self.x.shape
        field = np.fft.irfft2(np.fft.rfft2(self.rng.standard_normal(shape)) * self.red, s=shape)
        return field / field.std()


def write(folder, size=128, days=365, step_h=6, hemisphere="north", show=True, **settings):
    """Run the model and write one NetCDF file a month, in the layout of neXtSIM-DG output.

    Parameters
    ----------
    folder : str or Path
        Receives ``synthetic_arctic_YYYYmMM.nc`` or ``synthetic_antarctic_YYYYmMM.nc``.
    size, days, step_h, hemisphere
        See :func:`simulate`.
    show : bool
        Show progress.
    **settings
        ``start`` and ``seed``, see :func:`simulate`.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If a parameter is not possible or the disk is full.
    """
    domain = land.polar_grid(size, hemisphere)
    frames = simulate(size, days, step_h, hemisphere=hemisphere, **settings)
    region = {"north": "Arctic", "south": "Antarctic"}[hemisphere]
    seed = settings.get("seed", 0)
    attributes = metadata.file_attributes(
        f"Synthetic {region}, an idealised sea-ice model on the real coastline",
        f"seaice_lab.synthetic.arctic, seed {seed}; synthetic, without observations",
        "data make",
    )
    paths = []
    with progress.bar(days * 24 // step_h, f"synthetic {region}", "frame", show=show) as bar:
        for month, frames_of_month in groupby(frames, lambda frame: frame[0].astype("M8[M]")):
            times, fields = [], []
            for time, values in frames_of_month:
                times.append(time)
                fields.append(values)
                bar.update()
            name = f"synthetic_{region.lower()}_{str(month).replace('-', 'm')}.nc"
            paths.append(Path(folder) / name)
            dataset = _month_dataset(domain, times, fields).assign_attrs(attributes)
            files.write_netcdf(paths[-1], dataset)
    return paths


def _month_dataset(domain, times, fields):
    dataset = domain.drop_vars("ocean").assign_coords(
        time=("time", np.array(times, "datetime64[ns]"), {"standard_name": "time"})
    )
    dataset["mask"] = (("y", "x"), domain.ocean.values.astype("int8"))
    dataset["mask"].attrs = {"long_name": "1 = ocean, 0 = land or domain edge", "units": "1"}
    for name in fields[0]:
        values = np.stack([frame[name] for frame in fields])
        dataset[name] = (("time", "y", "x"), values, names.attributes(name))
    return dataset
