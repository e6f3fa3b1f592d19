"""Microwave radiometers: channels, frequencies, errors, biases and scan geometry.

The tables are in ``seaice_lab/data/sensors.yaml``; a file of the same form adds sensors.
"""

from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from seaice_lab.config import Config, read_yaml
from seaice_lab.errors import InputError

BUILT_IN = files("seaice_lab") / "data" / "sensors.yaml"
ICE, OCEAN = 0, 1  # rows of the bias tables
CONICAL_ZENITH_DEG = 55.0  # zenith angle of a conical scanner


class Channel(Config):
    """A channel of the unified list."""

    frequency_ghz: float
    error_k: float


class Sensor(Config):
    """A radiometer; values by channel name replace those of the unified list."""

    channels: tuple[str, ...]
    frequency_ghz: dict[str, float] = {}
    error_k: dict[str, float] = {}
    ice_bias_k: float = 0.0
    ocean_bias_k: float = 0.0
    bias_error_k: float = 1.0
    scan: Literal["conical", "crosstrack"] = "conical"
    first_angle_deg: float = float("nan")
    angle_step_deg: float = float("nan")


class SensorTables(Config):
    """A file of channels and sensors."""

    channels: dict[str, Channel] = {}
    sensors: dict[str, Sensor] = {}


class Instruments(NamedTuple):
    """Several sensors with one unified list of channels; arrays by sensor and channel.

    ``frequency_ghz`` and ``error_k`` are (sensor, channel), also for channels that a sensor lacks;
    ``vertical`` (channel) is 1 for vertical, 0 for horizontal polarisation; ``bias_k`` (surface,
    sensor) has the rows ICE and OCEAN; ``bias_error_k``, ``crosstrack``, ``first_angle_deg`` and
    ``angle_step_deg`` are (sensor); ``positions`` gives, for each sensor, the positions of its
    channels in the unified list, in the order of its files.
    """

    sensors: tuple[str, ...]
    channels: tuple[str, ...]
    frequency_ghz: np.ndarray
    error_k: np.ndarray
    vertical: np.ndarray
    bias_k: np.ndarray
    bias_error_k: np.ndarray
    crosstrack: np.ndarray
    first_angle_deg: np.ndarray
    angle_step_deg: np.ndarray
    positions: tuple[tuple[int, ...], ...]


def read_tables(tables):
    """Read and check a file of channels and sensors; a dict or None is returned unchanged.

    Raises
    ------
    InputError
        If the file is missing or has another form.
    """
    if tables is None or isinstance(tables, dict):
        return tables
    return SensorTables.read(tables).model_dump(mode="json", exclude_unset=True)


def instruments(names, tables=None):
    """Combine sensors into one list of channels, in the order of the master list.

    Parameters
    ----------
    names : sequence of str
        Sensors, in the order of their observations.
    tables : str, Path or dict, optional
        More channels and sensors: a YAML file in the form of ``seaice_lab/data/sensors.yaml``, or
        its content.

    Returns
    -------
    Instruments
        An error that a sensor replaces is replaced for this sensor only (the published version 2
        replaces it for all sensors of the run if one of them is an AMSU-A).

    Raises
    ------
    InputError
        If a sensor or channel is unknown, or a sensor is named twice.
    """
    built_in = SensorTables.parse(read_yaml(BUILT_IN), "sensors.yaml")
    added = SensorTables.parse(read_tables(tables) or {}, "sensor tables")
    channels = built_in.channels | added.channels
    sensors = _select(names, built_in.sensors | added.sensors, channels)
    unified = [name for name in channels if any(name in sensor.channels for sensor in sensors)]

    def by_channel(key):
        """Values of each sensor, by default those of the unified list."""
        replaced = [getattr(sensor, key) for sensor in sensors]
        default = {name: getattr(channels[name], key) for name in unified}
        return pd.DataFrame(replaced, columns=unified, dtype=float).fillna(default).to_numpy()

    def by_sensor(key):
        return np.array([getattr(sensor, key) for sensor in sensors])

    return Instruments(
        sensors=tuple(names),
        channels=tuple(unified),
        frequency_ghz=by_channel("frequency_ghz"),
        error_k=by_channel("error_k"),
        vertical=np.array([float(name.endswith("v")) for name in unified]),
        bias_k=np.stack([by_sensor("ice_bias_k"), by_sensor("ocean_bias_k")]),
        bias_error_k=by_sensor("bias_error_k"),
        crosstrack=by_sensor("scan") == "crosstrack",
        first_angle_deg=by_sensor("first_angle_deg"),
        angle_step_deg=by_sensor("angle_step_deg"),
        positions=tuple(tuple(map(unified.index, sensor.channels)) for sensor in sensors),
    )


def _select(names, sensors, channels):
    """The named sensors, after a check of their names and of their channels' names."""
    if not names or len(set(names)) != len(names):
        raise InputError(f"sensors: found {list(names)}; name one or more, each once")
    for name in names:
        if name not in sensors:
            raise InputError(
                f"unknown sensor {name!r}; the known ones are {', '.join(sensors)}; describe "
                "others in a YAML file in the form of seaice_lab/data/sensors.yaml"
            )
        for channel in sensors[name].channels:
            if channel not in channels or channel[-1] not in "vh":
                raise InputError(
                    f"sensor {name}: unknown channel {channel!r}; add it under channels, with a "
                    f"name that ends in v or h; the known ones are {', '.join(channels)}"
                )
    return [sensors[name] for name in names]
