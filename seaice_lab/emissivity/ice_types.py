"""Published emissivities of types of sea ice."""

import numpy as np
import pandas as pd

from seaice_lab.emissivity.sensors import BUILT_IN

TABLE = BUILT_IN.parent / "sea_ice_emissivity.csv"
FIRST_YEAR, OLD, MELTING = "first_year_ice", "composite_pack_ice", "rs_ice_a"
NEW = "nare_newice"
# Types whose mean is typical: not grease ice and other thin ice, which looks like water.
TYPICAL = (FIRST_YEAR, OLD, NEW, "fast_ice", "mixed_newice_snow", "broken_ice", "rs_ice_d")
# The three types that figures show, with their labels.
ICE_TYPE_LABELS = {
    FIRST_YEAR: "first-year ice",
    OLD: "pack ice, mostly old",
    MELTING: "melting ice",
}


def ice_types():
    """Read the emissivity of 13 types of sea ice at 7 frequencies, near 55 degrees.

    Returns
    -------
    DataArray (type, polarisation, frequency)
        Emissivity (1). The polarisations are "V", "H" and "mean"; the frequencies are in GHz and
        ascend. Source: Yan, Weng and Okamoto (2004), from the parameter tables of CRTM's
        NESDIS_AMSRE_SICEEM_Module.
    """
    table = pd.read_csv(TABLE).set_index(["surface_type", "polarisation", "frequency_GHz"])
    emissivity = table.emissivity.to_xarray().rename(surface_type="type", frequency_GHz="frequency")
    emissivity.attrs = {
        "long_name": "Emissivity of sea ice",
        "units": "1",
        "source": "Yan, Weng and Okamoto (2004), in CRTM's NESDIS_AMSRE_SICEEM_Module",
    }
    emissivity.frequency.attrs = {"long_name": "Frequency", "units": "GHz"}
    return emissivity


def type_emissivity(names, frequency_ghz, vertical):
    """Mean emissivity of some types of ice in some channels.

    Parameters
    ----------
    names : sequence of str
    frequency_ghz : ndarray (channel)
    vertical : ndarray (..., channel)
        Share of vertical polarisation.

    Returns
    -------
    ndarray (..., channel)
    """
    table = ice_types().sel(type=list(names), polarisation=["V", "H"]).mean("type")
    return mix(vertical, *interpolate(frequency_ghz, table.frequency, *table))


def interpolate(frequency_ghz, table_ghz, *tables):
    """Interpolate tables to some frequencies, linearly in the logarithm of the frequency.

    Parameters
    ----------
    frequency_ghz, table_ghz : ndarray (channel), (frequency)
    *tables : ndarray (frequency)

    Returns
    -------
    list of ndarray (channel)
    """
    return [np.interp(np.log(frequency_ghz), np.log(table_ghz), table) for table in tables]


def mix(vertical, of_vertical, of_horizontal):
    """Value of a channel from those of both polarisations.

    Parameters
    ----------
    vertical : ndarray
        Share of vertical polarisation.
    of_vertical, of_horizontal : ndarray

    Returns
    -------
    ndarray
    """
    return vertical * of_vertical + (1 - vertical) * of_horizontal
