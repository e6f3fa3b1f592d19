"""At which scales does a rollout lose detail, how much, and how fast?

The spectra are those of :mod:`seaice_lab.diagnostics.spectra`, averaged over many starts.
"""

import numpy as np
import xarray as xr

BANDS_KM = ((50, 100), (100, 200), (200, 400), (400, 900))


def effective_resolution(power, truth):
    """Wavelength below which a forecast has less than half of the truth's power.

    Parameters
    ----------
    power, truth : DataArray (..., wavenumber)
        From `power_spectrum`, averaged over many starts: single spectra are too noisy.

    Returns
    -------
    DataArray (...), km
        Going from long to short waves, the wavelength at which the ratio of the powers falls below
        one half and is still below it at the next wavenumber, so that a single weak wavenumber
        does not count; interpolated in the logarithm of the wavelength. The shortest wavelength
        (two cells) if the ratio never falls so far; NaN if the truth has no power.
    """
    ratio = (power / truth).compute()
    log_wavelength = np.log(ratio["wavelength"])
    # The first wavenumber that is below one half together with the next one.
    low = ratio < 0.5
    low_twice = low & low.shift(wavenumber=-1, fill_value=True)
    first = low_twice.argmax("wavenumber")
    # Interpolate between it and the wavenumber before it.
    before = (first - 1).clip(min=0)
    above, below = ratio.isel(wavenumber=before), ratio.isel(wavenumber=first)
    longer, shorter = log_wavelength.isel(wavenumber=before), log_wavelength.isel(wavenumber=first)
    share = ((above - 0.5) / (above - below).where(above > below)).fillna(0).clip(0, 1)
    resolution = np.exp(longer + share * (shorter - longer))
    resolution = resolution.where(low_twice.any("wavenumber"), float(ratio["wavelength"][-1]))
    resolution = resolution.where(ratio.notnull().all("wavenumber"))
    resolution = resolution.drop_vars(["wavenumber", "wavelength"], errors="ignore").rename(None)
    return resolution.drop_attrs().assign_attrs(long_name="Effective resolution", units="km")


def band_power_ratio(power, truth, bands_km=BANDS_KM):
    """Power of a forecast over that of the truth in bands of wavelengths.

    Parameters
    ----------
    power, truth : DataArray (..., wavenumber)
        From `power_spectrum`, averaged over starts and, for an ensemble, over members: the mean of
        an ensemble is smoother than each member.
    bands_km : sequence of (float, float)
        Shortest and longest wavelength of each band.

    Returns
    -------
    DataArray (band, ...)
        1 for a forecast that keeps the truth's variance. NaN if the spectrum does not reach a band.
    """
    wavelength = power["wavelength"]
    ratios = []
    for shortest, longest in bands_km:
        inside = (wavelength >= shortest) & (wavelength < longest)
        sums = (values.where(inside).sum("wavenumber", min_count=1) for values in (power, truth))
        ratios.append(np.divide(*sums))
    return xr.concat(
        ratios, xr.Variable("band", [f"{low:g}-{high:g} km" for low, high in bands_km])
    )


def diffusion(slope, truth):
    """How much and how fast a rollout smooths, from the spectral exponent against lead time.

    Parameters
    ----------
    slope, truth : DataArray (..., lead_time)
        Exponents of forecast and truth at the same times.

    Returns
    -------
    Dataset
        ``plateau``: mean difference of the exponents over the last third of the lead times,
        negative for a forecast that smooths. ``rise_time``: first lead time at which nine tenths
        of the plateau are reached. "Diffusion" is the term of Durand et al. (2024),
        doi:10.5194/tc-18-1791-2024.
    """
    difference = slope - truth
    leads = difference.sizes["lead_time"]
    plateau = difference.isel(lead_time=slice(leads - max(leads // 3, 1), None)).mean("lead_time")
    is_reached = abs(difference) >= 0.9 * abs(plateau)
    rise_time = difference["lead_time"].isel(lead_time=is_reached.argmax("lead_time"))
    long_name = "Lead time at which the plateau is reached"
    return xr.Dataset(
        {
            "plateau": plateau.assign_attrs(long_name="Exponent lost on the plateau", units="1"),
            "rise_time": rise_time.drop_vars("lead_time").assign_attrs(long_name=long_name),
        }
    )
