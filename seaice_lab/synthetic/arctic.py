"""The synthetic Arctic: an idealised sea-ice model on the real coastline, for tests and teaching.

Weather (a Beaufort high, moving lows, red noise) drives drift, brittle damage, advection, growth
and melt of ice on a polar stereographic grid (EPSG:3413). Every part is the simplest honest form
of the real thing; its source stands in the docstring. It is not calibrated: it looks and moves
like sea ice, and numbers about the real Arctic must come from elsewhere.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from seaice_lab import files, grid, names, progress, runs
from seaice_lab.errors import InputError
from seaice_lab.synthetic.sea_ice import (
    FREEZING_C,
    State,
    Weather,
    drift,
    freeze_and_melt,
    to_centres,
    transport,
)

DAY_S = 86400.0
CORIOLIS, AIR_DENSITY = 1.43e-4, 1.3
ICE_VARIABLES = ("sit", "sic", "snt", "siu", "siv", "damage")


def simulate(size=128, days=365, step_h=6, start="2001-01-01", seed=0, growth=True):
    """Run the model, yielding a frame every ``step_h`` hours.

    Parameters
    ----------
    size : int
        Cells along each side.
    days, step_h : int
        Length of the run and interval of the frames.
    start : str
        Date of the first frame.
    seed : int
        Decides the weather and the ice's weak spots; the same seed gives the same numbers.
    growth : bool
        Without it nothing freezes, melts or snows, and the ice volume is conserved.

    Yields
    ------
    time : numpy.datetime64
    frame : dict of str to ndarray (y, x)
        ``sit``, ``sic``, ``snt``, ``siu``, ``siv``, ``damage``, ``t2m``, ``u10``, ``v10``, float32;
        ice is NaN on land.

    Raises
    ------
    InputError
        If size, length or interval make no sense.
    """
    if days < 1 or step_h < 1 or 24 % step_h:
        raise InputError(
            f"days is {days} and step_h {step_h}; expected at least one day, and an interval that "
            "divides 24 h"
        )
    domain = grid.arctic_grid(size)
    ocean, dx = domain.ocean.values, grid.ARCTIC_WIDTH_M / size
    # A step moves ice of 1 m/s at most a third of a cell.
    substeps = int(np.ceil(step_h * 3600 / min(0.33 * dx, 4 * 3600)))
    step_s = step_h * 3600 / substeps
    rng = np.random.default_rng(seed)
    cohesion = np.exp(0.3 * rng.standard_normal(ocean.shape))
    weather = Storms(domain, rng)
    time = np.datetime64(start, "s")
    state = first_state(domain, day_of_year(time))
    now = weather.at(time, state)
    # Two days bring the drift into balance and break the first leads.
    for _ in range(2 * int(DAY_S // step_s)):
        state = drift(state, now, ocean, dx, step_s, cohesion)
    for _ in range(days * 24 // step_h):
        yield time, frame(state, now, ocean)
        for _ in range(substeps):
            time = time + np.timedelta64(round(step_s), "s")
            now = weather.at(time, state)
            state = drift(state, now, ocean, dx, step_s, cohesion)
            state = transport(state, ocean, dx, step_s)
            if growth:
                day = day_of_year(time)
                sun = max(np.sin(2 * np.pi * (day - 81) / 365), 0.0)
                climate_c = climatology_c(domain, day)
                state = freeze_and_melt(state, now, ocean, climate_c, sun, step_s)


def day_of_year(time):
    """Days since the start of the year, as float."""
    return (time - time.astype("datetime64[Y]")) / np.timedelta64(1, "D")


def frame(state, weather, ocean):
    """The fields of one output time under our names, float32, ice NaN on land."""
    centre = to_centres(state.velocity) * (state.concentration > 0.01)
    fields = {
        "sit": state.thickness, "sic": state.concentration, "snt": state.snow,
        "siu": centre.real, "siv": centre.imag, "damage": state.damage,
        "t2m": weather.air_k, "u10": weather.wind.real, "v10": weather.wind.imag,
    }  # fmt: skip
    return {
        name: np.where(ocean | (name not in ICE_VARIABLES), field, np.nan).astype("float32")
        for name, field in fields.items()
    }


def first_state(domain, day):
    """Ice as it lies in winter: thick against Greenland and Canada, none in the Nordic Seas."""
    x, y, ocean = _plane(domain)
    cold = np.clip((FREEZING_C + 2.5 - climatology_c(domain, day)) / 2.0, 0, 1) * ocean
    along_canada = np.exp(-np.hypot(x + 6e5, y + 6e5) / 9e5)
    thickness = cold * (1.0 + 2.6 * along_canada)
    zero = np.zeros(ocean.shape, "float32")
    corners = tuple(n + 1 for n in ocean.shape)
    return State(
        thickness=thickness, concentration=np.where(cold > 0.02, np.sqrt(cold), 0.0),
        snow=0.12 * cold, damage=0.3 * cold,
        ocean_c=np.maximum(climatology_c(domain, day), FREEZING_C),
        velocity=np.zeros(corners, "complex64"),
        stress=(zero, zero, zero),
    )  # fmt: skip


def climatology_c(domain, day):
    """Ocean temperature to which the mixed layer relaxes: warm Atlantic and Bering inflow."""
    x, y, _ = _plane(domain)
    season = np.cos(2 * np.pi * (day - 75) / 365)  # coldest in mid-March
    norway = 9 * np.exp(-(((x - 1.7e6) / 5.5e5) ** 2) - ((y + 1.95e6) / 7e5) ** 2)
    barents = 6 * np.exp(-(((x - 2.05e6) / 5.5e5) ** 2) - ((y + 0.75e6) / 4e5) ** 2)
    greenland_sea = 3 * np.exp(-(((x - 1.05e6) / 3e5) ** 2) - ((y + 1.6e6) / 6e5) ** 2)
    bering = 3 * np.exp(-(((x + 2.3e6) / 4e5) ** 2) - ((y - 1.6e6) / 5e5) ** 2)
    labrador = 5 * np.exp(-(((x + 9e5) / 5e5) ** 2) - ((y + 2.6e6) / 5e5) ** 2)
    warm = norway + barents + greenland_sea + bering + labrador
    return FREEZING_C + warm * (1 - 0.25 * season) + 0.25 * max(-season, 0.0)


class Storms:
    """The weather: a pressure field of highs, moving lows and red noise, and what follows from it.

    Wind is geostrophic, reduced to 0.68 and turned 22 degrees to the left by friction. Lows are
    born with random depth (8-34 hPa), radius, track and life of 2-6 days.
    """

    lows = 6

    def __init__(self, domain, rng):
        self.domain, self.rng = domain, rng
        self.x, self.y, _ = _plane(domain)
        self.dx = float(domain.x[1] - domain.x[0])
        self.tracks = [self._born(age=rng.uniform(0, 1)) for _ in range(self.lows)]
        size = self.x.shape[0]
        k = np.hypot(np.fft.fftfreq(size, self.dx)[:, None], np.fft.rfftfreq(size, self.dx))
        self.red = 1 / (1 + (k * 1.8e6) ** 2) ** 1.5
        self.noise = [self._draw(), self._draw()]
        self.time = None

    def at(self, time, state):
        """Weather at a time, moved on from the last time asked for; over the given ice."""
        elapsed = 0.0 if self.time is None else (time - self.time) / np.timedelta64(1, "s")
        self.time = time
        keep = np.exp(-elapsed / (1.6 * DAY_S))
        if elapsed:
            self.noise = [keep * n + np.sqrt(1 - keep**2) * self._draw() for n in self.noise]
        day = day_of_year(time)
        winter = 0.5 + 0.5 * np.cos(2 * np.pi * (day - 30) / 365)
        pressure = (2 + 9 * winter) * np.exp(
            -(((self.x + 9e5) ** 2 + (self.y - 3e5) ** 2) / 1.0e6**2)
        )
        pressure = pressure - 14 * np.exp(
            -(((self.x - 1.5e6) ** 2 + (self.y + 2.2e6) ** 2) / 1.1e6**2)
        )
        warmth = np.zeros_like(pressure)
        for number, low in enumerate(self.tracks):
            low["age"] += elapsed / low["life"]
            if low["age"] >= 1:
                low = self.tracks[number] = self._born()
            low["place"] += low["speed"] * elapsed
            distance = (self.x - low["place"].real) ** 2 + (self.y - low["place"].imag) ** 2
            shape = np.exp(-distance / (2 * low["radius"] ** 2)) * np.sin(np.pi * low["age"])
            pressure -= low["depth"] * (0.6 + 0.4 * winter) * shape
            warmth += low["depth"] / 4 * (0.3 + 0.7 * winter) * shape
        pressure = pressure + 4 * self.noise[0]
        slope_y, slope_x = np.gradient(100 * pressure, self.dx)
        wind = (-slope_y + 1j * slope_x) / (AIR_DENSITY * CORIOLIS)
        wind *= 0.68 * np.exp(1j * np.radians(22))
        speed = np.abs(wind)
        wind *= 24 * np.tanh(speed / 24) / np.maximum(speed, 1e-9)
        return Weather(wind, 273.15 + self._air_c(day, winter, warmth, state))

    def _air_c(self, day, winter, warmth, state):
        latitude = self.domain.latitude.values
        season = -np.cos(2 * np.pi * (day - 20) / 365)
        inland = -12.5 + 16.5 * season + (90 - latitude) * (0.28 + 0.12 * season)
        air = inland + warmth + (1 + 2.5 * winter) * self.noise[1]
        # Melting ice holds the air above it near zero, open water draws it to its own temperature.
        ice = ndimage.uniform_filter(state.concentration, 3)
        over_ice = np.where(air > 0, 0.25 * air, air)
        over_sea = 0.45 * air + 0.55 * state.ocean_c
        ocean = self.domain.ocean.values
        return np.where(ocean, ice * over_ice + (1 - ice) * over_sea, air)

    def _born(self, age=0.0):
        rng = self.rng
        direction = np.exp(2j * np.pi * rng.random())
        return {
            "place": rng.uniform(0.2, 2.3) * 1e6 * direction, "age": age,
            "life": rng.uniform(2, 6) * DAY_S, "depth": rng.uniform(8, 34),
            "radius": rng.uniform(2.2e5, 4.8e5),
            "speed": rng.uniform(2, 11) * np.exp(2j * np.pi * rng.random()),
        }  # fmt: skip

    def _draw(self):
        shape = self.x.shape
        field = np.fft.irfft2(np.fft.rfft2(self.rng.standard_normal(shape)) * self.red, s=shape)
        return field / field.std()


def write(folder, size=128, days=365, step_h=6, start="2001-01-01", seed=0, show=True):
    """Run the model and write a NetCDF file a month, in the layout of neXtSIM-DG output.

    Parameters
    ----------
    folder : str or Path
        Receives ``synthetic_arctic_YYYYmMM.nc``.
    size, days, step_h, start, seed
        See :func:`simulate`.
    show : bool
        Show progress.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If a parameter makes no sense or the disk is full.
    """
    frames = simulate(size, days, step_h, start, seed)
    domain = grid.arctic_grid(size)
    made, times, held, month = [], [], [], None
    with progress.bar(days * 24 // step_h, "synthetic Arctic", "frame", show=show) as bar:
        for time, fields in frames:
            if month is not None and time.astype("datetime64[M]") != month:
                made.append(_write_month(folder, domain, times, held, seed))
                times, held = [], []
            month = time.astype("datetime64[M]")
            times.append(time)
            held.append(fields)
            bar.update()
    made.append(_write_month(folder, domain, times, held, seed))
    return made


def _write_month(folder, domain, times, frames, seed):
    dataset = domain.drop_vars("ocean").assign_coords(
        time=("time", np.array(times, "datetime64[ns]"), {"standard_name": "time"})
    )
    dataset["mask"] = (("y", "x"), domain.ocean.values.astype("int8"))
    dataset["mask"].attrs = {"long_name": "1 = ocean, 0 = land or domain edge", "units": "1"}
    for name in frames[0]:
        values = np.stack([fields[name] for fields in frames])
        dataset[name] = (("time", "y", "x"), values, names.attributes(name))
    dataset.attrs = {
        "Conventions": names.CONVENTIONS,
        "title": "Synthetic Arctic, an idealised sea-ice model on the real coastline",
        "source": f"seaice_lab.synthetic.arctic, seed {seed}; synthetic, no observation enters",
        "history": f"{runs.now()} seaice-lab data make",
    }
    stamp = str(times[0].astype("datetime64[M]")).replace("-", "m")
    path = Path(folder) / f"synthetic_arctic_{stamp}.nc"
    files.write_netcdf(path, dataset)
    return path


def _plane(domain):
    x, y = np.meshgrid(domain.x.values, domain.y.values)
    return x, y, domain.ocean.values
