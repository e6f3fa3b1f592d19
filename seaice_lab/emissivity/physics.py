"""The known physics between a surface and a radiometer (Geer 2024, section 2).

The formulas are for NumPy arrays and torch tensors. Temperatures are in K, emissivities and
transmittances between 0 and 1, angles in degrees.
"""

from math import radians, sin

import numpy as np

MELTING_K = 273.0
COLD_SPAN_K = 30.0  # the skin-temperature index is 1 when the skin is colder than melting by this
FREEZING_SEA_K = 271.35
TRAINED_ZENITH_DEG = 53.0  # of the conical scanners with which networks are trained


def skin_temperature_index(skin_temperature):
    """Index of a cold surface, max(273 - T, 0) / 30: 0 when melting, 1 at 243 K.

    It is the one known predictor of the emissivity of ice.
    """
    return (MELTING_K - skin_temperature).clip(0) / COLD_SPAN_K


def water_temperature(skin_temperature, freezing=True):
    """Temperature of the open water in a footprint, from the skin temperature of the whole.

    Parameters
    ----------
    skin_temperature : array
        K.
    freezing : bool
        Whether the water is kept at its freezing point or above.

    Returns
    -------
    array, K
    """
    return skin_temperature.clip(FREEZING_SEA_K) if freezing else skin_temperature


def vertical_share(vertical, scan_angle):
    """Share of vertical polarisation in what a channel receives.

    The polarisation of a cross-track scanner rotates with the scan angle: the share is cos^2 of the
    angle for a channel that is vertical at nadir, and sin^2 for a horizontal one. Channels of a
    conical scanner keep their polarisation.

    Parameters
    ----------
    vertical : array (channel,)
        1 for a vertical channel, 0 for a horizontal one.
    scan_angle : array (observation, 1)
        Degrees from nadir; 0 for a conical scanner.

    Returns
    -------
    array (observation, channel)
    """
    is_tensor = hasattr(scan_angle, "deg2rad")
    cosine = scan_angle.deg2rad().cos() if is_tensor else np.cos(np.radians(scan_angle))
    return vertical * cosine**2 + (1 - vertical) * (1 - cosine**2)


def polarisation_shares(zenith):
    """Shares of both polarisations in an emissivity at another zenith angle than 53 degrees.

    A network that was trained at 53 degrees gives the emissivities v and h there. At another angle
    the mean of both is kept, and their difference is proportional to sin^2 of the angle, so that it
    vanishes at nadir: v' = same v + opposite h, h' = same h + opposite v.

    Parameters
    ----------
    zenith : Tensor
        Degrees.

    Returns
    -------
    same, opposite : Tensor
    """
    ratio = (zenith.deg2rad().sin() / sin(radians(TRAINED_ZENITH_DEG))) ** 2
    return 0.5 + ratio * 0.5, 0.5 - ratio * 0.5


def all_sky(clear, cloudy, cloud_fraction):
    """Radiative properties of a partly cloudy sky.

    The brightness temperature of a partly cloudy scene is the mean of those of the clear and the
    cloudy sky, weighted by the cloud fraction. Both are linear in the three quantities returned
    here, so that the means of these are exact and need less than half of the numbers.

    Parameters
    ----------
    clear, cloudy : tuple of (transmittance, downwelling, upwelling)
        Surface-to-space transmittance, brightness temperature (K) of the sky at the surface, and
        of the atmosphere at its top.
    cloud_fraction : array, broadcastable

    Returns
    -------
    transmittance, reflected, upwelling : array
        ``reflected`` is the sky's radiation at the top after reflection at a perfect mirror (K).
    """
    return tuple(
        (1 - cloud_fraction) * of_clear + cloud_fraction * of_cloudy
        for of_clear, of_cloudy in zip(_paths(*clear), _paths(*cloudy), strict=True)
    )


def brightness_temperature(ice_fraction, ice, ocean, ice_k, ocean_k, sky):
    """Brightness temperature over a mixture of ice and open water, specular reflection.

    With emissivity e = c e_ice + (1 - c) e_ocean:
    TB = transmittance (c e_ice T_ice + (1 - c) e_ocean T_ocean) + (1 - e) reflected + upwelling.

    Parameters
    ----------
    ice_fraction : array (observation, 1)
    ice, ocean : array (observation, channel)
        Emissivities.
    ice_k, ocean_k : array (observation, 1)
        Temperatures of the two surfaces.
    sky : tuple of array (observation, channel)
        Transmittance, reflected and upwelling radiation, from :func:`all_sky`.

    Returns
    -------
    array (observation, channel), K
    """
    transmittance, reflected, upwelling = sky
    from_ice = ice_fraction * ice
    from_ocean = (1 - ice_fraction) * ocean
    emitted = from_ice * ice_k + from_ocean * ocean_k
    return transmittance * emitted + (1 - from_ice - from_ocean) * reflected + upwelling


def _paths(transmittance, downwelling, upwelling):
    # downwelling radiation that is reflected at the surface crosses the atmosphere once more
    return transmittance, transmittance * downwelling, upwelling
