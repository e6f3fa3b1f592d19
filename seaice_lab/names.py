"""Names, units, colours and physical bounds of every variable that seaice_lab reads or writes.

Short names are the field's (``sit``, ``u10``); ``standard_name`` and ``units`` follow the
Climate and Forecast (CF) conventions, version 1.11.
"""

import re
from dataclasses import dataclass

from seaice_lab.errors import InputError

CONVENTIONS = "CF-1.11, ACDD-1.3"
ICE_EDGE_CONCENTRATION = 0.15  # the usual threshold of the ice edge and of the ice extent
# Thresholds of the ice edge by standard_name. That of thickness, m, is for forecasts that have no
# concentration.
ICE_THRESHOLDS = {"sea_ice_area_fraction": ICE_EDGE_CONCENTRATION, "sea_ice_thickness": 0.1}


@dataclass(frozen=True)
class Variable:
    """Description of a variable.

    ``minimum`` and ``maximum`` are physical bounds; forecasts are clipped to them. ``plausible`` is
    the range of real data in these units; it serves to detect centimetres and degrees Celsius.
    ``colour_map`` and ``colour_range`` are for maps; see also `seaice_lab.figures.colours`.
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
                       (0, 50),    0.0,  None, "sea_ice",     (0, 4)),
    "sic":    Variable("sea_ice_area_fraction", "Sea-ice concentration", "1",
                       (0, 1.02),  0.0,  1.0,  "sea_ice",     (0, 1)),
    "snt":    Variable("surface_snow_thickness", "Snow thickness on sea ice", "m",
                       (0, 10),    0.0,  None, "sea_ice",     (0, 0.5)),
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

# Units of real files in the spelling of :func:`canonical_units`: value = number * factor + offset.
CONVERSIONS = {
    "m": {"m": (1, 0), "km": (1e3, 0), "dm": (0.1, 0), "cm": (1e-2, 0), "mm": (1e-3, 0)},
    "1": {
        **dict.fromkeys(["", *"1 - none unitless dimensionless fraction 0-1".split()], (1, 0)),
        **dict.fromkeys(("%", "percent", "percentage", "1e-2", "0.01"), (1e-2, 0)),
    },
    "m s-1": {
        **dict.fromkeys(("m s-1", "ms-1"), (1, 0)),
        "dm s-1": (0.1, 0),
        "cm s-1": (1e-2, 0),
        "mm s-1": (1e-3, 0),
        "km h-1": (1 / 3.6, 0),
        "km d-1": (1 / 86.4, 0),
        "m d-1": (1 / 86400, 0),
        "cm d-1": (1 / 8640000, 0),
        "kt": (1852 / 3600, 0),
    },
    "K": {"K": (1, 0), "degC": (1, 273.15), "degF": (5 / 9, 459.67 * 5 / 9)},
}
# Other spellings of a unit, in lower case.
SPELLINGS = {
    "m": {"metre", "metres", "meter", "meters"},
    "km": {"kilometre", "kilometres", "kilometer", "kilometers"},
    "cm": {"centimetre", "centimetres", "centimeter", "centimeters"},
    "mm": {"millimetre", "millimetres", "millimeter", "millimeters"},
    "s": {"sec", "second", "seconds"},
    "h": {"hr", "hour", "hours"},
    "d": {"day", "days"},
    "kt": {"kts", "kn", "knot", "knots"},
    "K": {"k", "kelvin", "degk", "deg_k"},
    "degC": {"c", "celsius", "degc", "deg_c", "degree_c", "degrees_c", "degree_celsius",
             "degrees_celsius", "degcelsius", "\N{DEGREE SIGN}c"},
    "degF": {"f", "fahrenheit", "degf", "deg_f", "degree_fahrenheit", "degrees_fahrenheit"},
}  # fmt: skip
SPELLING_OF = {text: unit for unit, spellings in SPELLINGS.items() for text in spellings}


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


def canonical_units(units):
    """A unit of speed, length, temperature or share in one spelling.

    Parameters
    ----------
    units : str
        Such as "m/s", "m s**-1" or "meter second-1".

    Returns
    -------
    str
        Such as "m s-1"; an unknown unit keeps its own words.
    """
    text = re.sub(r"[(){}\[\]]|\s+", " ", units).strip()
    text = re.sub(r"^deg(rees?)? +(?=[CcFfKk])", "deg", text).replace("0 - 1", "0-1")
    # "m/s" and "m per s" are "m s-1"; powers are written with ** or ^; factors joined with . or *.
    text = re.sub(r"\s*(?:/|\bper\b)\s*([A-Za-z]+)", r" \1-1", text)
    text = re.sub(r"(\*\*|\^) *", "", text)
    words = re.split(r"[\s*]+|\.(?=[A-Za-z])", text)
    return " ".join(re.sub(r"^[^\d\W]+|^\W[A-Za-z]", _spelling, word) for word in words)


def _spelling(match):
    return SPELLING_OF.get(match[0].lower(), match[0])


def conversion(name, units, where):
    """Find how values in another unit are converted to the unit of the variable.

    Parameters
    ----------
    name : str
        Short name of the variable.
    units : str or None
        Unit in the file; None if it has none, and then only its values can be checked.
    where : str
        File or argument to name in the message.

    Returns
    -------
    factor, offset : float
        Value = number in the file * factor + offset.

    Raises
    ------
    InputError
        If the unit cannot be converted.
    """
    expected = variable(name).units
    if units is None:
        return 1, 0
    conversions = CONVERSIONS[expected]
    text = canonical_units(str(units))
    if text not in conversions:
        convertible = ", ".join(repr(unit) for unit in conversions if len(unit) > 1 or unit == "%")
        raise InputError(
            f"{where}: {name} has units {units!r}, expected {expected!r} or a unit that can be "
            f"converted ({convertible}); convert the values and set the units attribute"
        )
    return conversions[text]


def check_units(name, units, where):
    """Refuse any unit but that of the variable.

    Parameters
    ----------
    name : str
        Short name of the variable.
    units : str or None
        Unit of the values; None if they have none.
    where : str
        File or argument to name in the message.

    Raises
    ------
    InputError
        If the unit is not that of the variable.
    """
    if conversion(name, units, where) != (1, 0):
        raise InputError(
            f"{where}: {name} has units {units!r}, expected {variable(name).units!r}; "
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


def in_days(days):
    """A number of days in words, such as "1 day" or "5.5 days", or in hours, such as "6 hours".

    Parameters
    ----------
    days : float

    Returns
    -------
    str
        In hours if the days have more than one decimal.
    """
    number, unit = days, "day"
    if abs(days - round(days, 1)) > 1e-6:
        number, unit = round(24 * days, 2), "hour"
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def typeset(units):
    """CF units with superscripts, such as m² km for ``m2 km``.

    Parameters
    ----------
    units : str

    Returns
    -------
    str
    """
    superscripts = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
    return re.sub(r"(?<=[A-Za-z)])-?\d+", lambda match: match[0].translate(superscripts), units)
