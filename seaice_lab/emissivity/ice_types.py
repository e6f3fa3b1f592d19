"""Published emissivities of types of sea ice."""

import pandas as pd

from seaice_lab.emissivity.sensors import BUILT_IN

TABLE = BUILT_IN.parent / "sea_ice_emissivity.csv"
FIRST_YEAR, OLD, MELTING = "first_year_ice", "composite_pack_ice", "rs_ice_a"
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
