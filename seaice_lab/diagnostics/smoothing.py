"""At which scales does a rollout lose detail, how far, and how fast? Read from its spectra.

Spectra are those of :mod:`seaice_lab.diagnostics.spectra`, means over many starts.
"""

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError


def effective_resolution(power, truth):
    """Wavelength under which a forecast holds less than half of the truth's power.

    Parameters
    ----------
    power, truth : DataArray (..., wavenumber)
        From `power_spectrum`, means over many starts: single spectra are too noisy.

    Returns
    -------
    DataArray (...), km
        From the longest wave on, the first wavelength at which the ratio of the powers falls below
        one half and stays there up to the next wavenumber, so that one weak ring does not count;
        interpolated in the logarithm of the wavelength. The shortest wavelength of the spectrum
        (two cells) where the ratio never falls so far; NaN where the truth has no power.
    """
    ratio = (power / truth).transpose(..., "wavenumber")
    low = (ratio < 0.5).values
    fallen = low & np.concatenate([low[..., 1:], low[..., -1:]], axis=-1)
    first = np.where(fallen.any(-1), fallen.argmax(-1), ratio.sizes["wavenumber"])
    wavelength = np.log(ratio["wavelength"].values)
    values, last = ratio.values, ratio.sizes["wavenumber"] - 1
    at, before = np.minimum(first, last)[..., None], np.clip(first - 1, 0, last)[..., None]
    above, below = (np.take_along_axis(values, i, -1)[..., 0] for i in (before, at))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(above > below, (above - 0.5) / (above - below), 0.0)
    long, short = wavelength[before[..., 0]], wavelength[at[..., 0]]
    found = np.exp(long + np.clip(part, 0, 1) * (short - long))
    found = np.where(first > last, np.exp(wavelength[-1]), found)
    found = np.where(np.isnan(values).any(-1), np.nan, found)
    return xr.DataArray(
        found,
        dims=ratio.dims[:-1],
        coords={name: ratio[name] for name in ratio.dims[:-1] if name in ratio.coords},
        attrs={"long_name": "Effective resolution", "units": "km"},
    )


def band_power(spectrum, edges_km):
    """Variance in bands of wavelength: the integral of the density over each band.

    Parameters
    ----------
    spectrum : DataArray (..., wavenumber)
        From `power_spectrum`, for example of an error.
    edges_km : sequence of float
        Wavelengths that bound the bands, in any order.

    Returns
    -------
    DataArray (band, ...)
        Field units squared; ``band`` as text, such as "100 to 200 km", long waves first.

    Raises
    ------
    InputError
        If a band holds no wavenumber.
    """
    edges = sorted(edges_km, reverse=True)
    step = float(spectrum["wavenumber"][1] - spectrum["wavenumber"][0])
    wavelength = spectrum["wavelength"]
    bands = {}
    for longest, shortest in zip(edges, edges[1:], strict=False):
        inside = (wavelength <= longest) & (wavelength > shortest)
        if not inside.any():
            raise InputError(
                f"the band {shortest:g} to {longest:g} km holds no wavenumber of the spectrum, "
                f"which goes from {float(wavelength.min()):.0f} to {float(wavelength.max()):.0f} "
                "km; take wider bands"
            )
        power = spectrum.isel(wavenumber=inside.values).sum("wavenumber") * step
        bands[f"{shortest:g} to {longest:g} km"] = power
    return xr.concat(bands.values(), xr.Variable("band", list(bands)))


def diffusion(slope, truth):
    """How a rollout smooths, from its exponent against lead time: how far, and how fast.

    Parameters
    ----------
    slope, truth : DataArray (..., lead_time)
        Exponents of forecast and truth at the same times.

    Returns
    -------
    Dataset
        ``plateau``: mean difference of the exponents over the last third of the lead times,
        negative for a forecast that smooths; ``rise_time``: first lead time at which nine tenths
        of it are reached. "Diffusion" as in Durand et al. (2024).
    """
    difference = slope - truth
    leads = difference.sizes["lead_time"]
    plateau = difference.isel(lead_time=slice(leads - max(leads // 3, 1), None)).mean("lead_time")
    reached = abs(difference) >= 0.9 * abs(plateau)
    rise = difference["lead_time"].isel(lead_time=reached.argmax("lead_time"))
    return xr.Dataset(
        {
            "plateau": plateau.assign_attrs(long_name="Exponent lost on the plateau", units="1"),
            "rise_time": rise.drop_vars("lead_time").assign_attrs(
                long_name="Lead time at which the plateau is reached"
            ),
        }
    )
