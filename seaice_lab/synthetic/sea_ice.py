"""Physics of the synthetic Arctic: drift, transport, growth and melt, one time step each.

Fields are (y, x) at cell centres; velocity is complex, u + iv along the grid axes, on the corners
(y + 1, x + 1).
"""

from typing import NamedTuple

import numpy as np

DAY_S = 86400.0
FREEZING_C, ICE_LATENT = -1.8, 917 * 3.34e5  # J m-3
ICE_CONDUCTIVITY, SNOW_CONDUCTIVITY = 2.1, 0.31
MIXED_LAYER = 1026 * 3990 * 30.0  # heat capacity of 30 m of sea water, J m-2 K-1
DRAG = 0.6  # linearised ice-ocean drag, kg m-2 s-1
WIND_FACTOR, TURNING = 0.018, np.exp(-1j * np.radians(22))  # free drift from the 10 m wind
STRENGTH, STRENGTH_DECAY, ASPECT = 27.5e3, 20.0, 2.0  # Hibler (1979)
CREEP = 1.5e-7  # deformation rate below which ice creeps, s-1: about 1 % a day
DAMAGE_STRAIN, HEALING_S = 0.04, 10 * DAY_S
RELAXATIONS, INERTIA = 24, 60.0  # iterations of the momentum balance a step, and their damping


class State(NamedTuple):
    """What evolves; see the module for where it stands."""

    thickness: np.ndarray  # ice volume per cell area, m
    concentration: np.ndarray
    snow: np.ndarray  # m per cell area
    damage: np.ndarray
    ocean_c: np.ndarray  # temperature of the mixed layer, degrees Celsius
    velocity: np.ndarray
    stress: tuple  # sum and difference of the normal stresses, twice the shear stress; N m-1


class Weather(NamedTuple):
    """Forcing at one time, (y, x): 10 m wind along the grid axes (complex) and temperature."""

    wind: np.ndarray
    air_k: np.ndarray


def drift(state, weather, ocean, dx, step_s, cohesion):
    """Velocity in balance with wind, water and the ice's own resistance; damage where it breaks.

    The balance R DRAG (u_free - u) + div(stress) = 0, R turning by the Coriolis angle (Thorndike
    and Colony 1982 for u_free), with a viscous-plastic stress (Hibler 1979) whose strength falls
    with damage, found by damped relaxation from the last step's solution (Bouillon et al. 2013).
    Damage grows with deformation above a random threshold and heals in 15 days; as damaged ice is
    weak, deformation gathers there and breaks lines (after Girard et al. 2011).
    """
    free = _to_corners(weather.wind * WIND_FACTOR * TURNING)
    wet = _wet_corners(ocean)
    pressure = STRENGTH * state.thickness * np.exp(-STRENGTH_DECAY * (1 - state.concentration))
    # Single precision: the balance is relaxed, not solved, and this is most of the work.
    pressure = (pressure * (1.02 - state.damage) * ocean).astype("float32")
    free, dx = free.astype("complex64"), np.float32(dx)
    u, (p, m, t) = state.velocity, state.stress
    # The finer the grid, the stiffer the ice: more damping, more iterations.
    response = np.complex64(TURNING / DRAG)
    inertia = np.float32(INERTIA * max(1.0, 40e3 / dx))
    for _ in range(round(RELAXATIONS * inertia / INERTIA)):
        u_x, u_y = _gradient(u, dx)
        divergence, tension = u_x.real + u_y.imag, u_x.real - u_y.imag
        shear = u_y.real + u_x.imag
        rate = np.sqrt(divergence**2 + (tension**2 + shear**2) / ASPECT**2)
        viscosity = pressure / (rate + CREEP)
        p = p + (viscosity * (divergence - rate) - p) / inertia
        m = m + (viscosity * tension / ASPECT**2 - m) / inertia
        t = t + (viscosity * shear / ASPECT**2 - t) / inertia
        force = _divergence(0.5 * (p + m), 0.5 * t, 0.5 * (p - m), dx)
        u = wet * (u + (free - u + response * force) * (2 / inertia))
    breaking = np.maximum(rate / cohesion - 2.0e-7, 0)
    intact = (1 - state.damage) * np.exp(-step_s * breaking / DAMAGE_STRAIN)
    damage = (1 - intact) * np.exp(-step_s / HEALING_S) * (state.concentration > 0.01)
    return state._replace(velocity=u, stress=(p, m, t), damage=damage)


def transport(state, ocean, dx, step_s):
    """Move ice, snow and damage with the velocity; what is squeezed above full cover ridges.

    One direction after the other, with :func:`advect`.
    """
    u, v = _face_velocities(state.velocity)
    carried = np.stack(
        [state.thickness, state.concentration, state.snow, state.damage * state.thickness]
    )
    steps = max(int(np.ceil(np.abs(state.velocity).max() * step_s / (0.4 * dx))), 1)
    side = step_s / steps * dx
    for _ in range(steps):
        carried = advect(carried, u * side, dx**2, axis=-1)
        carried = advect(carried, v * side, dx**2, axis=-2)
    thickness, concentration, snow, damaged = carried
    damage = np.clip(damaged / np.maximum(thickness, 1e-6), 0, 1)
    return state._replace(
        thickness=thickness, concentration=np.minimum(concentration, 1.0), snow=snow, damage=damage
    )


def freeze_and_melt(state, weather, ocean, climate_c, sun, step_s):
    """Growth through ice and snow, new ice in leads, melt from above, below and the sides.

    Stefan-type growth with the conductive flux through ice and snow (Semtner 1976, no heat
    storage); melt by degree-days and sunlight; a mixed layer that warms, cools, gives heat to the
    ice and freezes at its surface; lead closing and lateral melt after Hibler (1979).
    ``climate_c`` is the temperature that the mixed layer relaxes to, ``sun`` the height of the
    season, 0 in winter to 1 at the summer solstice.
    """
    h, cover, snow, water = state.thickness, state.concentration, state.snow, state.ocean_c
    air = weather.air_k - 273.15
    actual = h / np.maximum(cover, 0.02)
    blanket = snow / np.maximum(cover, 0.02)
    resistance = actual / ICE_CONDUCTIVITY + blanket / SNOW_CONDUCTIVITY + 0.15
    grown = cover * np.maximum(FREEZING_C - air, 0) / resistance * step_s / ICE_LATENT
    warmth = np.maximum(air + 1.0, 0) + 1.9 * sun * (air > -4)
    melting = 6.0e-3 * warmth * step_s / DAY_S * cover
    snow_melt = np.minimum(snow, 2.5 * melting)
    surface = melting - snow_melt / 2.5
    below = 30.0 * np.maximum(water - FREEZING_C, 0)  # W m-2
    bottom = (cover * below + 1.5 * cover) * step_s / ICE_LATENT
    melted = np.minimum(h + grown, surface + bottom)
    sunlit = 130 * sun * (1 - cover)
    exchange = (1 - cover) * 12.0 * (air - water) + sunlit - cover * below
    # Warm inflow holds the edge; under the pack the relaxation hardly acts.
    relaxed = (climate_c - water) / (10 * DAY_S) * MIXED_LAYER
    water = water + (exchange + relaxed) * step_s / MIXED_LAYER
    new = np.maximum(FREEZING_C - water, 0) * MIXED_LAYER / ICE_LATENT * ocean
    water = np.where(ocean, np.maximum(water, FREEZING_C), FREEZING_C)
    cover_lost = cover * melted / np.maximum(0.9 * h, 1e-3)
    cover = np.clip(cover + (1 - cover) * new / 0.4 - cover_lost, 0, 1)
    h = (h + grown + new - melted) * ocean
    cover = np.minimum(cover, h / 0.2)  # no ice thinner than 20 cm where there is some
    snow = snow + 1.2e-3 * step_s / DAY_S * cover * (air < -1) - snow_melt
    snow = np.clip(np.minimum(snow, 0.4 * cover), 0, None) * (h > 0.01)
    return state._replace(thickness=h, concentration=cover, snow=snow, ocean_c=water)


def _wet_corners(ocean):
    """Corners with sea in all four cells around: elsewhere ice sticks to the coast."""
    wet = np.zeros(tuple(n + 1 for n in ocean.shape), bool)
    wet[1:-1, 1:-1] = ocean[1:, 1:] & ocean[1:, :-1] & ocean[:-1, 1:] & ocean[:-1, :-1]
    return wet


def _to_corners(field):
    corners = np.zeros(tuple(n + 1 for n in field.shape), field.dtype)
    corners[1:-1, 1:-1] = (field[1:, 1:] + field[1:, :-1] + field[:-1, 1:] + field[:-1, :-1]) / 4
    return corners


def to_centres(corner):
    return (corner[1:, 1:] + corner[1:, :-1] + corner[:-1, 1:] + corner[:-1, :-1]) / 4


def _gradient(corner, dx):
    """Derivatives along x and y at the centres."""
    along_x, along_y = corner[:, 1:] - corner[:, :-1], corner[1:] - corner[:-1]
    return (along_x[1:] + along_x[:-1]) / (2 * dx), (along_y[:, 1:] + along_y[:, :-1]) / (2 * dx)


def _divergence(xx, xy, yy, dx):
    """Force of a stress given at the centres, on the corners: x + i y component."""
    a, b = xx + np.complex64(1j) * xy, xy + np.complex64(1j) * yy
    force = np.zeros(tuple(n + 1 for n in xx.shape), a.dtype)
    along_x, along_y = a[:, 1:] - a[:, :-1], b[1:] - b[:-1]
    force[1:-1, 1:-1] = (along_x[1:] + along_x[:-1] + along_y[:, 1:] + along_y[:, :-1]) / (2 * dx)
    return force


def _face_velocities(corner):
    """Normal velocity through the faces between cells: x faces (y, x - 1), y faces (y - 1, x)."""
    u = (corner.real[1:] + corner.real[:-1])[:, 1:-1] / 2
    v = (corner.imag[:, 1:] + corner.imag[:, :-1])[1:-1] / 2
    return u, v


def advect(fields, swept, area, axis):
    """Carry fields one time step along one axis: conservative, positive, second order.

    Fluxes through cell faces of values reconstructed with the monotonised central limiter
    (van Leer 1977).

    Parameters
    ----------
    fields : ndarray (..., y, x)
    swept : ndarray (..., y, x - 1) or (..., y - 1, x)
        Area that the flow sweeps through each face, towards growing index: velocity times time
        step times length of the face; zero at coasts. At most the area of the cell it leaves.
    area : float or ndarray (y, x)
    axis : -1 for x, -2 for y

    Returns
    -------
    ndarray (..., y, x)
    """
    q, swept = np.swapaxes(fields, axis, -1), np.swapaxes(swept, axis, -1)
    area = np.broadcast_to(np.swapaxes(area, axis, -1) if np.ndim(area) else area, q.shape[-2:])
    step = np.diff(q, axis=-1)
    central = 0.5 * (step[..., 1:] + step[..., :-1])
    least = 2 * np.minimum(np.abs(step[..., 1:]), np.abs(step[..., :-1]))
    slope = np.zeros_like(q)
    slope[..., 1:-1] = np.where(
        step[..., 1:] * step[..., :-1] > 0, np.sign(central) * np.minimum(np.abs(central), least), 0
    )
    from_left = q[..., :-1] + 0.5 * (1 - swept / area[:, :-1]) * slope[..., :-1]
    from_right = q[..., 1:] - 0.5 * (1 + swept / area[:, 1:]) * slope[..., 1:]
    flux = swept * np.where(swept > 0, from_left, from_right)
    q = q.copy()
    q[..., :-1] -= flux / area[:, :-1]
    q[..., 1:] += flux / area[:, 1:]
    return np.swapaxes(q, axis, -1)
