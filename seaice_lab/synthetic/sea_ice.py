"""Physics of the synthetic sea ice: drift, transport, growth and melt, one time step each.

Fields are (y, x) at the cell centres. Velocity is complex, u + iv along the grid axes, at the
cell corners (y + 1, x + 1).
"""

from typing import NamedTuple

import numpy as np

from seaice_lab.advection import advect
from seaice_lab.synthetic.climate import FREEZING_C

DAY_S = 86400.0
ICE_LATENT = 917 * 3.34e5  # J m-3
ICE_CONDUCTIVITY, SNOW_CONDUCTIVITY = 2.1, 0.31  # W m-1 K-1
MIXED_LAYER = 1026 * 3990 * 30.0  # heat capacity of 30 m of sea water, J m-2 K-1
DRAG = 0.6  # linearised drag between ice and ocean, kg m-2 s-1
SYNTHETIC_WIND_FACTOR = 0.018  # speed of free drift over that of the 10 m wind
# Direction of free drift relative to the wind: to the right in the north; conjugate in the south.
TURNING = np.exp(-1j * np.radians(22))
STRENGTH, STRENGTH_DECAY, ASPECT = 27.5e3, 20.0, 2.0  # Hibler (1979)
CREEP = 1.5e-7  # deformation rate below which ice creeps, s-1: about 1 % a day
BREAKING = 2.0e-7  # deformation rate above which ice breaks, s-1
DAMAGE_STRAIN = 0.04  # strain that breaks most of the ice
HEALING_S = 10 * DAY_S
# Iterations of the momentum balance in a time step; each makes 1 / INERTIA of the change.
RELAXATIONS, INERTIA = 24, 60.0


class State(NamedTuple):
    """The variables of the model; the module says at which points of the grid they are."""

    thickness: np.ndarray  # ice volume per cell area, m
    concentration: np.ndarray
    snow: np.ndarray  # m per cell area
    damage: np.ndarray
    ocean_c: np.ndarray  # temperature of the mixed layer, degrees Celsius
    velocity: np.ndarray  # m s-1
    stress: tuple  # sum and difference of the normal stresses, twice the shear stress; N m-1


class Weather(NamedTuple):
    """Forcing at one time, (y, x)."""

    wind: np.ndarray  # at 10 m, along the grid axes, complex, m s-1
    air_k: np.ndarray  # temperature at 2 m, K


def drift(state, weather, ocean, dx, step_s, cohesion, turning=TURNING):
    """Compute the ice velocity and the damage after one time step.

    The velocity balances wind, water and the resistance of the ice: R DRAG (u_free - u) +
    div(stress) = 0, with R the turning by the Coriolis angle (Thorndike and Colony 1982 for
    u_free). The stress is viscous-plastic (Hibler 1979), and its strength decreases with damage.
    The balance is found by damped relaxation from the solution of the last step (Bouillon et al.
    2013). Damage grows where the deformation is above a random threshold, and heals in 10 days.
    Damaged ice is weak, so that deformation concentrates there and forms lines (after Girard et
    al. 2011).

    Parameters
    ----------
    state : State
    weather : Weather
    ocean : ndarray of bool (y, x)
        True where sea.
    dx : float
        Side of a cell, m.
    step_s : float
        Time step, s.
    cohesion : ndarray (y, x)
        Resistance of the ice against breaking, around 1.
    turning : complex
        Factor of length 1 that turns the wind into the direction of free drift.

    Returns
    -------
    State
    """
    free = _to_corners(weather.wind * SYNTHETIC_WIND_FACTOR * turning)
    wet = wet_corners(ocean)
    # Strength of the ice, Hibler (1979) equation 17, reduced by damage.
    pressure = STRENGTH * state.thickness * np.exp(-STRENGTH_DECAY * (1 - state.concentration))
    # Single precision is enough because the balance is relaxed, not solved; it saves much time.
    pressure = (pressure * (1.02 - state.damage) * ocean).astype("float32")
    free, dx = free.astype("complex64"), np.float32(dx)
    u, (p, m, t) = state.velocity, state.stress
    response = np.complex64(turning / DRAG)
    # The finer the grid, the stiffer the ice: it needs more damping and more iterations.
    inertia = np.float32(INERTIA * max(1.0, 40e3 / dx))
    for _ in range(round(RELAXATIONS * inertia / INERTIA)):
        u_x, u_y = _gradient(u, dx)
        divergence, tension = u_x.real + u_y.imag, u_x.real - u_y.imag
        shear = u_y.real + u_x.imag
        rate = np.sqrt(divergence**2 + (tension**2 + shear**2) / ASPECT**2)
        # Each iteration changes the stress by 1 / inertia of its distance from the elliptic
        # yield curve.
        viscosity = pressure / (rate + CREEP)
        p = p + (viscosity * (divergence - rate) - p) / inertia
        m = m + (viscosity * tension / ASPECT**2 - m) / inertia
        t = t + (viscosity * shear / ASPECT**2 - t) / inertia
        force = _divergence(0.5 * (p + m), 0.5 * t, 0.5 * (p - m), dx)
        u = wet * (u + (free - u + response * force) * (2 / inertia))
    breaking = np.maximum(rate / cohesion - BREAKING, 0)
    intact = (1 - state.damage) * np.exp(-step_s * breaking / DAMAGE_STRAIN)
    damage = (1 - intact) * np.exp(-step_s / HEALING_S) * (state.concentration > 0.01)
    return state._replace(velocity=u, stress=(p, m, t), damage=damage)


def transport(state, dx, step_s):
    """Move ice, snow and damage with the velocity, one direction after the other.

    Ice that convergence would raise above full cover forms ridges: the concentration is cut at 1
    and the volume stays.

    Parameters
    ----------
    state : State
    dx : float
        Side of a cell, m.
    step_s : float
        Time step, s.

    Returns
    -------
    State
    """
    # Normal velocity through the faces between cells, (y, x - 1) and (y - 1, x).
    u, v = state.velocity.real, state.velocity.imag
    u = (u[1:] + u[:-1])[:, 1:-1] / 2
    v = (v[:, 1:] + v[:, :-1])[1:-1] / 2
    fields = np.stack(
        [state.thickness, state.concentration, state.snow, state.damage * state.thickness]
    )
    # Steps in which ice moves by at most 0.4 cells.
    steps = max(int(np.ceil(np.abs(state.velocity).max() * step_s / (0.4 * dx))), 1)
    side = step_s / steps * dx
    for _ in range(steps):
        fields = advect(fields, u * side, dx**2, axis=-1)
        fields = advect(fields, v * side, dx**2, axis=-2)
    thickness, concentration, snow, damaged = fields
    damage = np.clip(damaged / np.maximum(thickness, 1e-6), 0, 1)
    return state._replace(
        thickness=thickness, concentration=np.minimum(concentration, 1.0), snow=snow, damage=damage
    )


def freeze_and_melt(state, weather, ocean, climate_c, sun, step_s):
    """Growth through ice and snow, new ice in leads, melt from above, below and the sides.

    Growth of Stefan type with the conductive flux through ice and snow (Semtner 1976, without heat
    storage); melt by degree-days and sunlight; a mixed layer that warms and cools, gives heat to
    the ice and freezes at its surface; closing of leads and lateral melt after Hibler (1979).

    Parameters
    ----------
    state : State
    weather : Weather
    ocean : ndarray of bool (y, x)
        True where sea.
    climate_c : ndarray (y, x)
        Temperature to which the mixed layer relaxes, degrees Celsius.
    sun : float
        Strength of the sunlight, 0 in winter to 1 at the summer solstice.
    step_s : float
        Time step, s.

    Returns
    -------
    State
    """
    h, cover, snow, water = state.thickness, state.concentration, state.snow, state.ocean_c
    air = weather.air_k - 273.15
    # Growth: conductive flux through ice and snow in series, over the latent heat.
    actual = h / np.maximum(cover, 0.02)
    blanket = snow / np.maximum(cover, 0.02)
    resistance = actual / ICE_CONDUCTIVITY + blanket / SNOW_CONDUCTIVITY + 0.15
    grown = cover * np.maximum(FREEZING_C - air, 0) / resistance * step_s / ICE_LATENT
    # Melt at the surface: 6 mm of ice a degree-day, snow first.
    warmth = np.maximum(air + 1.0, 0) + 1.9 * sun * (air > -4)
    melting = 6.0e-3 * warmth * step_s / DAY_S * cover
    snow_melt = np.minimum(snow, 2.5 * melting)
    surface = melting - snow_melt / 2.5
    # Melt at the bottom: 30 W m-2 a degree above freezing, and a constant flux.
    below = 30.0 * np.maximum(water - FREEZING_C, 0)  # W m-2
    bottom = (cover * below + 1.5 * cover) * step_s / ICE_LATENT
    melted = np.minimum(h + grown, surface + bottom)
    # Heat of the mixed layer: exchange with the air and sunlight in leads, heat given to the ice.
    sunlit = 130 * sun * (1 - cover)
    exchange = (1 - cover) * 12.0 * (air - water) + sunlit - cover * below
    # Warm inflow keeps the ice edge in its place; under the pack the relaxation has little effect.
    relaxed = (climate_c - water) / (10 * DAY_S) * MIXED_LAYER
    water = water + (exchange + relaxed) * step_s / MIXED_LAYER
    new = np.maximum(FREEZING_C - water, 0) * MIXED_LAYER / ICE_LATENT * ocean
    water = np.where(ocean, np.maximum(water, FREEZING_C), FREEZING_C)
    # Concentration: new ice is 40 cm thick; melt removes area in proportion to the lost thickness.
    cover_lost = cover * melted / np.maximum(0.9 * h, 1e-3)
    cover = np.clip(cover + (1 - cover) * new / 0.4 - cover_lost, 0, 1)
    h = (h + grown + new - melted) * ocean
    cover = np.minimum(cover, h / 0.2)  # ice is at least 20 cm thick where there is some
    snow = snow + 1.2e-3 * step_s / DAY_S * cover * (air < -1) - snow_melt
    snow = np.clip(np.minimum(snow, 0.4 * cover), 0, None) * (h > 0.01)
    return state._replace(thickness=h, concentration=cover, snow=snow, ocean_c=water)


def wet_corners(ocean):
    """Corners with sea in all four cells around them; at the other corners the ice cannot move."""
    return _to_corners(ocean.astype("float32")) == 1


def to_centres(corner):
    """Mean of the four corners of each cell, (y + 1, x + 1) to (y, x)."""
    return (corner[1:, 1:] + corner[1:, :-1] + corner[:-1, 1:] + corner[:-1, :-1]) / 4


def _to_corners(field):
    """Mean of the four cells around each corner, zero at the edge, (y, x) to (y + 1, x + 1)."""
    return np.pad(to_centres(field), 1)


def _gradient(corner, dx):
    """Derivatives along x and y at the centres."""
    along_x, along_y = corner[:, 1:] - corner[:, :-1], corner[1:] - corner[:-1]
    return (along_x[1:] + along_x[:-1]) / (2 * dx), (along_y[:, 1:] + along_y[:, :-1]) / (2 * dx)


def _divergence(xx, xy, yy, dx):
    """Divergence of a stress at the centres, at the corners: x + i y component."""
    a, b = xx + np.complex64(1j) * xy, xy + np.complex64(1j) * yy
    force = np.zeros(tuple(n + 1 for n in xx.shape), a.dtype)
    along_x, along_y = a[:, 1:] - a[:, :-1], b[1:] - b[:-1]
    force[1:-1, 1:-1] = (along_x[1:] + along_x[:-1] + along_y[:, 1:] + along_y[:, :-1]) / (2 * dx)
    return force
