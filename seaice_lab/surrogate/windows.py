"""Windows: which fields at which time offsets enter the network, and which increments it predicts.

A window is written as a configuration, so a run folder says completely what its network reads.
:data:`WINDOWS` holds the windows that have a name.
"""

from itertools import takewhile

import numpy as np
from pydantic import model_validator

from seaice_lab.config import Config
from seaice_lab.errors import InputError


class Window(Config):
    """Inputs and targets of the network; offsets in hours from the present time.

    ``inputs`` lists (variable, offset) in channel order: first the state, that is the predicted
    variables at 0 and possibly one or more steps earlier (-12, -24); then the forcing at any
    offsets, and fields made from the grid and the date (:data:`DERIVED`). ``targets`` lists what
    is predicted: increments of a variable from ``start_h`` to this offset. The first target of
    each variable is the step that a forecast repeats.
    """

    inputs: tuple[tuple[str, float], ...]
    targets: tuple[tuple[str, float], ...] = (("sit", 12.0),)
    start_h: float = 0.0

    @model_validator(mode="after")
    def _check_that_it_can_be_repeated(self):
        if not self.targets or self.step_h <= 0:
            raise ValueError(f"targets: one or more must be after start_h {self.start_h:g}")
        count = len(self.variables)
        if self.targets[:count] != tuple((name, self.targets[0][1]) for name in self.variables):
            raise ValueError("targets: must begin with the same offset of every variable")
        if self.inputs[:count] != tuple((name, 0.0) for name in self.variables):
            raise ValueError(
                "inputs: must begin with the present state, in the order of the targets: "
                + ", ".join(f"({name}, 0)" for name in self.variables)
            )
        state_after_forcing = any(name in self.variables for name, _ in self.forcing)
        if state_after_forcing or any(offset > 0 for _, offset in self.state):
            raise ValueError("inputs: the state must come before the forcing, at 0 h or earlier")
        for name, offset in self.state[count:]:
            if (name, offset + self.step_h) not in self.state:
                raise ValueError(
                    f"inputs: ({name}, {offset:g}) needs ({name}, {offset + self.step_h:g}) too, "
                    "because a forecast moves the state back by one step after each step"
                )
        return self

    @property
    def variables(self):
        """The predicted variables."""
        return tuple(dict.fromkeys(name for name, _ in self.targets))

    @property
    def state(self):
        """The inputs that a forecast carries along: the present state and its past."""
        return tuple(takewhile(lambda field: field[0] in self.variables, self.inputs))

    @property
    def forcing(self):
        """The inputs after the state, in channel order."""
        return self.inputs[len(self.state) :]

    @property
    def step_h(self):
        """Length of one step of the surrogate, in hours."""
        return self.targets[0][1] - self.start_h

    @property
    def step(self):
        """Length of one step of the surrogate, a timedelta64."""
        return np.timedelta64(round(self.step_h * 3600), "s")

    @property
    def past_channels(self):
        """For each past state, the channel of the state that takes its place after one step."""
        return [
            self.state.index((name, offset + self.step_h))
            for name, offset in self.state[len(self.variables) :]
        ]


def published_inputs(first_h, second_h):
    """Inputs in the published order: thickness, then winds and temperature at three offsets.

    Parameters
    ----------
    first_h, second_h : float
        Offsets of the forcing besides 0, hours.

    Returns
    -------
    tuple of (str, float)
    """
    later = [(name, offset) for name in ("u10", "v10", "t2m") for offset in (first_h, second_h)]
    return (("sit", 0.0), ("u10", 0.0), ("v10", 0.0), ("t2m", 0.0), *later)


FULL_STATE = ("sit", "sic", "siu", "siv", "damage")

# Durand et al. (2024) describe forcing at t, t+6 h and t+12 h for the step from t to t+12 h. The
# two public scripts use other windows; they are here so that their results can be reproduced.
WINDOWS = {
    "self_consistent": Window(inputs=published_inputs(6.0, 12.0)),
    "published_surrogate": Window(
        inputs=published_inputs(12.0, 24.0), targets=(("sit", 36.0),), start_h=24.0
    ),
    "published_4dvar": Window(inputs=published_inputs(6.0, 12.0), start_h=-12.0),
    "no_forcing": Window(inputs=(("sit", 0.0),)),
    # The thickness twelve hours earlier shows where the ice comes from.
    "past_state": Window(inputs=(("sit", 0.0), ("sit", -12.0), *published_inputs(6.0, 12.0)[1:])),
    "full_state": Window(
        inputs=(
            *((name, 0.0) for name in FULL_STATE),
            *((name, offset) for name in ("u10", "v10", "t2m") for offset in (0.0, 6.0, 12.0)),
        ),
        targets=tuple((name, 12.0) for name in FULL_STATE),
    ),
}

# Inputs made from the grid and the date, with fixed scales: the season may be constant over a short
# training period.
DERIVED = {
    "latitude": {"mean": 75.0, "std": 10.0},
    "coast_distance_km": {"mean": 300.0, "std": 300.0},
    "season_sine": {"mean": 0.0, "std": 1.0},
    "season_cosine": {"mean": 0.0, "std": 1.0},
}

STATIC = ("latitude", "coast_distance_km")  # the derived inputs that do not change with time


def find_window(name):
    """Find a named window.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in WINDOWS:
        raise InputError(f"unknown window {name!r}; the named windows are {', '.join(WINDOWS)}")
    return WINDOWS[name]
