"""Read observations from the files of published products and of the emissivity model.

The variables of a file tell its product, and their CF attributes tell times, periods, positions and
units. No real file of these products was available: the layouts are those of their documentation.
"""

import re
from pathlib import Path
from typing import NamedTuple

import dask
import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import flags, formats, names, positions, progress, times
from seaice_lab.assimilation import observations
from seaice_lab.assimilation.observations import KINDS, REASONS
from seaice_lab.assimilation.settings import ObservationFilesConfig
from seaice_lab.errors import InputError, listed

WATER_DENSITY = 1024.0  # kg m-3
ICE_DENSITY_ERROR = 20.0  # kg m-3; first-year and multi-year ice differ by 35
SNOW_ERROR_M = 0.1  # where the file has no error of the snow thickness
THICKNESS = "(sea_)?(ice_)?thickness"
FREEBOARD = ("beam_fb_height", "radar_freeboard")  # in metres, as thickness


class Layout(NamedTuple):
    """A variable of a product, with patterns of its name and of the names of its errors.

    ``kind`` is that of the values, for freeboard after its conversion to thickness.

    Several errors belong to independent sources, of which the value is a weighted mean.
    ``period_h``: start and end of the period of a mean, in hours from its time, if neither the
    files nor the settings give the period.
    """

    source: str
    kind: str
    value: str
    error: str
    period_h: tuple[float, float] | None = None


ERROR = "unc(ertainty)?"
TOTAL_ERROR = "(total_)?(standard_)?(uncertainty|error)"
SENSORS = f"(cryosat|smos)_{THICKNESS}"
# The first layout that fits is read. The analysis of CS2SMOS contains a climatology, which its
# weighted mean does not.
LAYOUTS = (
    Layout("cs2smos", "sit_of_ice", f"weighted_mean_{THICKNESS}", f"{SENSORS}_{ERROR}"),
    Layout("cs2smos", "sit_of_ice", f"analysis_{THICKNESS}", f"analysis_{THICKNESS}_{ERROR}"),
    Layout("cs2smos", "sit_of_ice", f"cryosat_{THICKNESS}", f"cryosat_{THICKNESS}_{ERROR}"),
    Layout("cs2smos", "sit_of_ice", f"smos_{THICKNESS}", f"smos_{THICKNESS}_{ERROR}"),
    Layout("thickness", "sit_of_ice", "(sea_)?ice_thickness", f"((sea_)?ice_thickness_)?{ERROR}"),
    Layout("altimeter", "sit_of_ice", "radar_freeboard", f"radar_freeboard_{ERROR}"),
    Layout("icesat2", "sit_of_ice", "beam_fb_height", "beam_fb_(unc|sigma)"),
    Layout("osisaf", "sic", "ice_conc", TOTAL_ERROR),
    Layout("osisaf", "sic", "raw_ice_conc_values", TOTAL_ERROR),
    Layout("emissivity", "sic", "seaice", "seaice_std", (-3, 21)),
    Layout("concentration", "sic", "sea_ice_area_fraction", TOTAL_ERROR),
)
# Meanings of flags of values that are no observations, except after "no" or "not", as in
# not_missing and no_bad_data.
PROBLEM = (
    "land(?!_?spill)|lake|interp|clim(o|at)|missing|invalid|bad|poor|fail|pole_?hole|unusable|"
    "low_quality|suspect"
)
REJECTED = re.compile(rf"(?<!no_)(?<!not_)({PROBLEM})|(?<![a-z])no_(?!{PROBLEM})\w*data")


def read_observations(paths, config=None):
    """Read files of observations, whose product is recognised from their content.

    Parameters
    ----------
    paths : sequence of str or Path
        CS2SMOS, CryoSat-2 along track (L2P), ICESat-2 freeboard (ATL10) or thickness, OSI SAF and
        AMSR2 concentration, ``seaice_<tag>.nc`` of ``seaice-lab emissivity infer``, or tables of
        :func:`~seaice_lab.assimilation.observations.write_table`.
    config : ObservationFilesConfig, optional

    Returns
    -------
    xarray.Dataset
        A table. Values that a product marks as missing are left out.

    Raises
    ------
    InputError
        If a product is not recognised, lacks errors, times or units, or no observation can be used.
    """
    config = config or ObservationFilesConfig()
    tables = [table for path in paths for table in _read_file(Path(path), config)]
    if not tables:
        raise InputError("observations: found no file, expected at least one; check the paths")
    table = observations.concatenate(tables)
    observations.refuse_unused(table, listed(paths))
    return table


def thickness_of_freeboard(freeboard, snow, config, is_laser):
    """Thickness of floating ice in equilibrium, and its standard error.

    SIT = (rho_w f + rho_s h) / (rho_w - rho_i), with the freeboard f of the ice and the snow
    thickness h. A laser measures f + h. A radar measures f - h (c / c_s - 1), because its waves
    are slower in snow, c / c_s = (1 + 0.51 rho_s)^1.5 with rho_s in g cm-3 (Ulaby et al. 1986).

    Parameters
    ----------
    freeboard, snow : tuple of array_like
        Freeboard and snow thickness, each with its standard error, metres.
    config : ObservationFilesConfig
        Densities.
    is_laser : bool

    Returns
    -------
    thickness, sigma : ndarray
        Metres, per area of ice. Errors of freeboard, snow and density of the ice (20 kg m-3) are
        independent.
    """
    slowing = (1 + 0.51e-3 * config.snow_density) ** 1.5 - 1
    of_snow = WATER_DENSITY * (-1 if is_laser else slowing) + config.snow_density
    buoyancy = WATER_DENSITY - config.ice_density
    thickness = (WATER_DENSITY * freeboard[0] + of_snow * snow[0]) / buoyancy
    terms = WATER_DENSITY * freeboard[1], of_snow * snow[1], thickness * ICE_DENSITY_ERROR
    return thickness, np.sqrt(sum(term**2 for term in terms)) / buoyancy


def _read_file(path, config):
    """The tables of a file, one for each group with observations."""
    with formats.closing_files(), dask.config.set(scheduler="synchronous"):
        if not path.exists():
            raise InputError(f"{path}: no such file; check the path")
        groups = formats.open_groups(path)
        if groups["/"].attrs.get("featureType") == "point" and "quality" in groups["/"]:
            return [observations.read_table(path)]
        layout, fields = _recognised(path, groups, config)
        where = str(path)
        return [_read_field(groups[group], name, layout, config, where) for group, name in fields]


def _recognised(path, groups, config):
    """Layout of a file, with the kind of the settings, and groups and names of its fields."""
    present = [(group, name) for group, dataset in groups.items() for name in dataset.data_vars]
    fields_of = {
        layout: [
            (group, name)
            for group, name in present
            if config.variable in (None, name)
            and (
                re.fullmatch(layout.value, name.lower())
                or groups[group][name].attrs.get("standard_name") == layout.value
            )
        ]
        for layout in LAYOUTS
    }

    def lacks_errors(layout):
        return not any(re.fullmatch(layout.error, name) for _, name in present)

    # A field with errors is preferred to one without.
    layout = min(filter(fields_of.get, LAYOUTS), key=lacks_errors, default=None)
    fields = fields_of.get(layout, [])
    if not fields or len({group for group, _ in fields}) < len(fields):
        problem = "several variables" if fields else "no variable"
        raise InputError(
            f"{path}: has {problem} of a known product in {listed(name for _, name in present)}, "
            "expected one such as analysis_sea_ice_thickness, sea_ice_thickness, beam_fb_height, "
            "ice_conc or seaice; name one of them with the setting variable, or rename a variable "
            "of the file"
        )
    variable, kind = KINDS[layout.kind].variable, config.kind or layout.kind
    if KINDS[kind].variable != variable:
        kinds = [name for name, each in KINDS.items() if each.variable == variable]
        raise InputError(
            f"{path}: the setting kind is {kind}, expected {' or '.join(kinds)}, because "
            f"the file holds {variable}; correct the setting or leave it out"
        )
    progress.note(f"{path}: reads {fields[0][1]} of {layout.source} as {KINDS[kind].long_name}")
    return layout._replace(kind=kind), fields


def _read_field(raw, name, layout, config, where):
    """The table of one field of a file."""
    raw = raw.set_coords([other for other in raw.data_vars if other != name])
    variable = KINDS[layout.kind].variable
    values = _in_unit(raw, name, variable, where)
    if name == "raw_ice_conc_values":  # may lack the values that no filter has changed
        values = values.fillna(_companion(raw, name, "ice_conc", variable, where))
    sigma = _errors(raw, name, layout, config, where)
    if layout.value in FREEBOARD:
        snow, is_laser = _snow(raw, name, config, where), layout.source == "icesat2"
        values, sigma = thickness_of_freeboard((values, sigma), snow, config, is_laser)
    latitude, longitude = positions.of_field(raw, name, where)
    start, end = _period(raw, name, latitude, layout, config, where)
    further = set(raw[name].dims).difference(latitude.dims, longitude.dims, start.dims)
    if any(raw.sizes[dim] > 1 for dim in further):
        raise InputError(
            f"{where}: {name} has the further dimension {', '.join(sorted(further))}, expected "
            "the dimensions of positions and times only; write a file with one of its values"
        )
    columns = {
        "value": values,
        "sigma": sigma,
        "latitude": latitude,
        "longitude": longitude,
        "time": start + (end - start) / 2,
        "time_start": start,
        "time_end": end,
        "quality": REASONS.index("rejected_by_its_source") * _is_rejected(raw, name),
        "correlation_length": _companion(raw, name, "correlation_length.*", "sit", where, False),
        "concentration": _companion(raw, name, "(sea_)?ice_conc(entration)?", "sic", where),
        "smoothing": xr.DataArray(1e3 * config.smoothing_km),
    }
    arrays = xr.broadcast(*(xr.DataArray(column.variable) for column in columns.values()))
    arrays = dict(zip(columns, arrays, strict=True))
    is_present = np.isfinite(arrays["value"] + arrays["latitude"] + arrays["longitude"]).values
    columns = {key: array.values[is_present] for key, array in arrays.items()}
    return observations.observation_table(columns | {"kind": layout.kind, "source": layout.source})


def _in_unit(raw, name, variable, where, units=None, is_checked=True):
    """A variable of a file in the unit of a variable of the project; these have no offset."""
    units = raw[name].attrs.get("units", units)
    factor, _ = names.conversion(variable, units, where)
    values = raw[name].compute() * factor
    low, high = np.nanmin(values, initial=0), np.nanmax(values, initial=0)
    # Noise may exceed the plausible range, but not twice. Without units, only the range shows
    # whether the unit is right.
    limit = names.variable(variable).plausible[1] * (1 if units is None else 2)
    if is_checked and max(-low, high) > limit:
        names.check_range(variable, low, high, f"{where}: {name}")
    return values


def _companions(raw, name, pattern):
    """Names of other variables that match a pattern and have dimensions of the field only."""
    return [
        other
        for other in raw.coords
        if re.fullmatch(pattern, other.lower()) and set(raw[other].dims) <= set(raw[name].dims)
    ]


def _companion(raw, name, pattern, variable, where, is_checked=True):
    """Variable of a file that matches a pattern, in the unit of the project; NaN without one."""
    others = _companions(raw, name, pattern)
    if not others:
        return xr.DataArray(np.nan)
    return _in_unit(raw, others[0], variable, where, is_checked=is_checked)


def _errors(raw, name, layout, config, where):
    """Standard deviation of the errors of a field, in the unit of the project."""
    others = _companions(raw, name, layout.error)
    if not others:
        if config.sigma is None:
            raise InputError(
                f"{where}: has no errors of {name}, expected a variable such as "
                f"{name}_uncertainty; give their standard deviation with the setting sigma"
            )
        return xr.DataArray(config.sigma)
    units, variable = raw[name].attrs.get("units"), KINDS[layout.kind].variable
    errors = [_in_unit(raw, other, variable, where, units) for other in others]
    # The weights of independent errors are their inverse variances. An error of 0 or NaN counts as
    # missing. Where all are missing, nothing was observed, so the setting sigma is not used.
    weights = [(error.where(error > 0) ** -2.0).fillna(0) for error in errors]
    total = sum(weights, xr.DataArray(0.0))
    return total.where(total > 0) ** -0.5


def _snow(raw, name, config, where):
    """Snow thickness of the file, or of the configuration, and its standard error."""
    depth = _companion(raw, name, "snow_(depth|thickness)", "snt", where)
    depth = depth.fillna(np.nan if config.snow_m is None else config.snow_m)
    if depth.isnull().all():
        raise InputError(
            f"{where}: has freeboard and no snow thickness, expected a variable such as "
            "snow_depth, because the ice thickness depends on it; give the setting snow_m"
        )
    error = _companion(raw, name, f"snow_(depth|thickness)_{ERROR}", "snt", where)
    return depth, error.fillna(SNOW_ERROR_M)


def _period(raw, name, latitude, layout, config, where):
    """Start and end of the periods of means; both are the time for values along a track."""
    if config.time is None:
        notes = []
        stamps = times.valid_times(raw, name, where, notes)
        for note in notes:
            progress.note(f"{where}: {note}")
        if stamps.dims == latitude.dims:  # a time of each position
            return stamps, stamps
        for coordinate in raw.coords.values():
            bounds = (coordinate.encoding | coordinate.attrs).get("bounds")
            if times.is_time(coordinate) and coordinate.dims == stamps.dims and bounds in raw:
                coded = raw[bounds].variable.copy(deep=False)
                coded.attrs = coordinate.attrs | coded.attrs
                edges = xr.DataArray(times.decode(coded, f"{where}: {bounds}", []), dims=coded.dims)
                ends = [dim for dim in edges.dims if dim not in stamps.dims]
                return edges.min(ends), edges.max(ends)
    else:
        given = [key for key in _companions(raw, name, ".*") if times.is_time(raw[key])]
        if given:
            raise InputError(
                f"{where}: has the times {listed(given)}, expected none if the setting time is "
                "given; leave out the setting, or read this file without it"
            )
        moment = pd.to_datetime(config.time, utc=True, errors="coerce")  # NaT if it is no time
        stamps = xr.DataArray(moment.to_datetime64())
    hours = layout.period_h
    if config.period_h is not None:
        hours = -config.period_h / 2, config.period_h / 2
    if hours is None or stamps.isnull().any():
        raise InputError(
            f"{where}: does not say of which period {name} is the mean, expected time bounds; give "
            "the setting period_h (168 for a weekly map, 24 for a daily map, 0 for instantaneous "
            "values), and the setting time, such as 2021-03-01T12, if the file has no time"
        )
    return tuple(stamps + np.timedelta64(round(hour * 3600), "s") for hour in hours)


def _is_rejected(raw, name):
    """True where a flag of the file says that a value is no observation."""
    rejected = xr.DataArray(False)
    for flag_name in _companions(raw, name, ".*(status|quality).*"):
        for flag in flags.read(raw[flag_name].attrs):
            if REJECTED.search(re.sub(r"\W+", "_", flag.meaning)):
                rejected = rejected | flag.is_set(raw[flag_name])
    return rejected
