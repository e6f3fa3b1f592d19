"""Names, units, colours and physical bounds of every variable that seaice_lab reads or writes.

Short names are the field's (``sit``, ``u10``); ``standard_name`` and ``units`` follow the
Climate and Forecast (CF) conventions, version 1.11.
"""

from dataclasses import dataclass

from seaice_lab.errors import InputError

CONVENTIONS = "CF-1.11"
ICE_EDGE_CONCENTRATION = 0.15  # the usual threshold of the ice edge and of the ice extent


@dataclass(frozen=True)
class Variable:
    """Description of a variable.

    ``minimum`` and ``maximum`` are physical bounds; forecasts are clipped to them. ``plausible`` is
    the range of real data in these units; it serves to detect centimetres and degrees Celsius.
    ``colour_map`` and ``colour_range`` are for maps.
    """

    standard_name: str
    long_name: str
    units: str
    plausible: tuple[float, float]
    minimum: float | None = None
    maximum: float | None = None
    colour_map: str = "viridis"
    colour_range: tuple[float, float] | None = None


# standard_name, long_name, units; then plausible, minimum, maximum, colour_map, colour_range.
VARIABLES = {
    "sit":    Variable("sea_ice_thickness", "Sea-ice thickness (ice volume per cell area)", "m",
                       (0, 50),    0.0,  None, "cmo.ice",     (0, 4)),
    "sic":    Variable("sea_ice_area_fraction", "Sea-ice concentration", "1",
                       (0, 1.02),  0.0,  1.0,  "cmo.ice",     (0, 1)),
    "snt":    Variable("surface_snow_thickness", "Snow thickness on sea ice", "m",
                       (0, 10),    0.0,  None, "cmo.ice",     (0, 0.5)),
    "siu":    Variable("sea_ice_x_velocity", "Sea-ice velocity along grid x", "m s-1",
                       (-3, 3),    None, None, "cmo.balance", (-0.4, 0.4)),
    "siv":    Variable("sea_ice_y_velocity", "Sea-ice velocity along grid y", "m s-1",
                       (-3, 3),    None, None, "cmo.balance", (-0.4, 0.4)),
    "damage": Variable("", "Sea-ice damage (0 intact, 1 fully damaged)", "1",
                       (0, 1.02),  0.0,  1.0,  "cmo.amp",     (0.5, 1)),
    "t2m":    Variable("air_temperature", "Air temperature at 2 m", "K",
                       (180, 340), None, None, "cmo.thermal", (233, 283)),
    "u10":    Variable("x_wind", "Wind at 10 m along grid x", "m s-1",
                       (-70, 70),  None, None, "cmo.balance", (-15, 15)),
    "v10":    Variable("y_wind", "Wind at 10 m along grid y", "m s-1",
                       (-70, 70),  None, None, "cmo.balance", (-15, 15)),
}  # fmt: skip

FORCING = ("t2m", "u10", "v10")

# Spellings of each unit in real files.
UNIT_ALIASES = {
    "m": {"m", "metre", "metres", "meter", "meters"},
    "1": {"1", "", "-", "none", "dimensionless", "fraction", "(0 - 1)", "0-1"},
    "m s-1": {"m s-1", "m s**-1", "m/s", "m.s-1", "ms-1", "m s^-1"},
    "K": {"K", "kelvin", "Kelvin", "degK"},
}


def variable(name):
    """The description of a variable by its short name.

    Raises
    ------
    InputError
        If the name is unknown; the message lists the known ones.
    """
    if name not in VARIABLES:
        raise InputError(
            f"unknown variable {name!r}: the known ones are {', '.join(VARIABLES)}; "
            "add it to seaice_lab/names.py if it is new"
        )
    return VARIABLES[name]


def attributes(name):
    """CF attributes of a variable as a dict: ``standard_name``, ``long_name`` and ``units``."""
    description = variable(name)
    attrs = {"long_name": description.long_name, "units": description.units}
    if description.standard_name:
        attrs["standard_name"] = description.standard_name
    return attrs


def check_units(name, units, where):
    """Refuse any unit but that of the variable.

    Parameters
    ----------
    name : str
        Short name of the variable.
    units : str or None
        Unit in the file; None if it has none, and then only its values can be checked.
    where : str
        File or argument to name in the message.

    Raises
    ------
    InputError
        If the unit is not that of the variable.
    """
    expected = variable(name).units
    if units is not None and units.strip() not in UNIT_ALIASES[expected]:
        raise InputError(
            f"{where}: {name} has units {units!r}, expected {expected!r}; "
            "convert the values and set the units attribute"
        )


def check_range(name, smallest, largest, where):
    """Refuse values that are implausible in the unit of the variable, such as thickness in cm.

    Parameters
    ----------
    name : str
        Short name of the variable.
    smallest, largest : float
        Extremes of the values, in the unit of the variable.
    where : str
        File or argument to name in the message.

    Raises
    ------
    InputError
        If the extremes are outside the plausible range of the variable.
    """
    low, high = variable(name).plausible
    if smallest < low or largest > high:
        raise InputError(
            f"{where}: {name} runs from {smallest:.4g} to {largest:.4g}, expected values within "
            f"{low:g} to {high:g} {variable(name).units}; check the units of the file"
        )
