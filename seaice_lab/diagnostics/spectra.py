"""How much does a rollout smooth? The power spectral density of a field and its exponent.

A network trained on squared errors damps what it cannot predict, the short waves first, and every
step of a rollout damps them again: its spectrum steepens with lead time while the truth's does not.
The exponent p of S(k) ~ k^p, fitted over a range of wavelengths, says so in one number per field.

Land is the difficulty: a coastline with zeros behind it is a sharp edge whose own spectrum hides
that of the ice. So a spectrum is taken over the largest square of the grid that is all ocean
(`power_spectrum`, `spectral_exponent`). The convention of Durand et al. (2024),
doi:10.5194/tc-18-1791-2024, keeps the whole image with land as zero (`published_spectrum`,
`published_exponent`); its numbers can only be compared with each other, under one mask.

Both sum over directions, so white noise has the exponent +1 and S(k) ~ k^p stands for a
two-dimensional density ~ k^(p-1).
"""

import os
from functools import lru_cache

import numpy as np
import xarray as xr
from scipy import fft

from seaice_lab.errors import InputError

PUBLISHED_START = 5  # list position of the first wavenumber of the published fit, so j >= 6
SHORTEST_FITTED = 2  # times the shortest wave of the spectrum (2 cells): 4 cells
LONGEST_FITTED = 1 / 3  # of the longest wave of the spectrum, the side of the square
CONVENTION = "of the power summed over directions; that of the density in 2-D is one less"
FRAMES_AT_ONCE = 16  # transformed together, so that memory stays small
FEWEST_FITTED = 4  # wavenumbers; fewer leave the slope to chance


def largest_ocean_square(ocean):
    """Largest square of cells without land, the first in row order among equals.

    Spectra of sea ice say little over open water: pass ``ocean & region`` (say, where the mean
    concentration exceeds 0.8) to keep the square inside the pack.

    Parameters
    ----------
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    dict
        Slices of y and x, made for ``field.isel(square)``.

    Raises
    ------
    InputError
        If no cell is True.
    """
    mask = ocean.transpose("y", "x").values.astype(bool)
    # Sums over any rectangle from four corners of the running total.
    total = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def corners(side):
        inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side]
        return np.argwhere(inside + total[:-side, :-side] == side**2)

    # A square contains smaller ones, so the sides that fit end somewhere: bisect for the end.
    fits, fails = 0, min(mask.shape) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if len(corners(middle)) else (fits, middle)
    if not fits:
        raise InputError(
            "the mask has no ocean cell, expected True where sea; make it with e.g. mask == 1"
        )
    row, column = (int(index) for index in corners(fits)[0])
    return {"y": slice(row, row + fits), "x": slice(column, column + fits)}


def power_spectrum(field, ocean, dx_m):
    """Power spectral density over the largest all-ocean square, summed over directions.

    The best-fitting plane is removed (it is no wave, and its jump across the edge looks like all
    of them), a Hann window closes the edges, and the window's loss of energy is made good. The
    density is such that its sum times the wavenumber step is the variance of the windowed field,
    except for diagonal waves shorter than two cells, which belong to no full ring.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Values, finite everywhere in the square. Lazy arrays stay lazy.
    ocean : DataArray of bool (y, x)
        True where sea, or a part of it: see `largest_ocean_square`. Spectra that are to be
        compared need the same mask.
    dx_m : float
        Distance between cells, m, taken as equal in both directions over the square.

    Returns
    -------
    DataArray (..., wavenumber), float64
        Density in field units squared times km, against ``wavenumber`` in cycles per km; the
        coordinate ``wavelength`` is its inverse in km, from the side of the square to two cells.

    Raises
    ------
    InputError
        If the mask does not fit, or a value inside the square is missing (for a lazy field when
        it is computed).

    Notes
    -----
    With w the window, n cells a side, F the discrete Fourier transform of w times the field less
    its plane, and dk = 1 / (n dx): S(j dk) dk = sum of |F|^2 / (n^4 <w^2>) over the wavenumbers
    within half a step of j.
    """
    _check_mask(field, ocean)
    side = field.isel(largest_ocean_square(ocean))
    n_cells = side.sizes["x"]
    step = 1000 / (n_cells * dx_m)
    ring = np.arange(1, n_cells // 2 + 1)
    density = _transform(_windowed_rings, side, len(ring)) / step
    units = field.attrs.get("units", "1")
    density = density.assign_coords(
        wavenumber=("wavenumber", ring * step, {"long_name": "Wavenumber", "units": "km-1"}),
        wavelength=("wavenumber", 1 / (ring * step), {"long_name": "Wavelength", "units": "km"}),
    )
    return density.rename("power").assign_attrs(
        long_name=f"Power spectral density of {field.attrs.get('long_name', 'the field')}",
        units="km" if units == "1" else f"{units if units.isalpha() else f'({units})'}2 km",
        comment=f"largest all-ocean square ({n_cells} cells a side), plane removed, Hann window",
    )


def spectral_exponent(spectrum, wavelength_km=None):
    """Exponent p of S(k) ~ k^p: least squares of ln S on ln k over a range of wavelengths.

    Parameters
    ----------
    spectrum : DataArray (..., wavenumber)
        From `power_spectrum`, or a mean of such.
    wavelength_km : (float, float), optional
        Shortest and longest wavelength of the fit. By default from 4 cells, below which a model
        hardly resolves a wave, to a third of the square, beyond which window and plane bend the
        spectrum (synthetic fields of exponent -1 to -3 on 64 cells come back within 0.1).

    Returns
    -------
    Dataset
        ``slope`` (the exponent), ``slope_error`` (its standard error), ``intercept`` (ln S at
        1 cycle per km) and ``r2`` (share of the variance of ln S explained), each (...). NaN where
        the field has no power, as an ice-free square. The attribute ``wavelength_km`` is the range
        of the fit.

    Raises
    ------
    InputError
        If the range holds fewer than 4 wavenumbers.
    """
    wavelength = spectrum["wavelength"]
    if wavelength_km is None:
        wavelength_km = (
            SHORTEST_FITTED * float(wavelength.min()),
            LONGEST_FITTED * float(wavelength.max()),
        )
    shortest, longest = sorted(wavelength_km)
    # Rounding must not drop the wave that lies exactly on the limit.
    chosen = (wavelength >= shortest * (1 - 1e-9)) & (wavelength <= longest * (1 + 1e-9))
    if int(chosen.sum()) < FEWEST_FITTED:
        raise InputError(
            f"wavelengths of {shortest:.0f} to {longest:.0f} km hold {int(chosen.sum())} "
            f"wavenumbers of the spectrum, expected at least {FEWEST_FITTED}; widen the range "
            f"within {float(wavelength.min()):.0f} to {float(wavelength.max()):.0f} km or take "
            "a larger ocean square"
        )
    fit = _power_law(spectrum.isel(wavenumber=chosen.values))
    return fit.assign_attrs(wavelength_km=[shortest, longest])


def published_spectrum(field, ocean):
    """Spectrum by the published rule: whole square image, land as zero, no window, mean kept.

    Parameters
    ----------
    field : DataArray (..., y, x)
        On a square image; finite on ocean cells. Lazy arrays stay lazy.
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    DataArray (..., wavenumber), float64
        Mean of the unnormalised |FFT|^2 over the ring [j - 1/2, j + 1/2) times the ring's area,
        against ``wavenumber`` j = 1 ... n/2 in cycles per image.

    Raises
    ------
    InputError
        If the image is not square or an ocean cell is missing.

    Notes
    -----
    Durand et al. (2024), doi:10.5194/tc-18-1791-2024.
    """
    _check_mask(field, ocean)
    if field.sizes["y"] != field.sizes["x"]:
        raise InputError(
            f"the image has {field.sizes['y']} x {field.sizes['x']} cells, expected a square one; "
            "crop the field, or use power_spectrum, which finds a square itself"
        )
    ring = np.arange(1, field.sizes["x"] // 2 + 1)
    coordinate = ("wavenumber", ring.astype(float), {"long_name": "Wavenumber", "units": "1"})
    power = _transform(_published_rings, field.where(ocean, 0.0), len(ring))
    return (
        power.assign_coords(wavenumber=coordinate)
        .rename("power")
        .assign_attrs(
            long_name="Power in a ring, published convention",
            comment="cycles per image; land as zero",
        )
    )


def published_exponent(spectrum, start=PUBLISHED_START):
    """Exponent by the published rule: ordinary least squares from list position `start` to the end.

    Parameters
    ----------
    spectrum : DataArray (..., wavenumber)
        From `published_spectrum`.
    start : int
        Position of the first wavenumber of the fit, counted from zero.

    Returns
    -------
    Dataset
        ``slope``, ``slope_error``, ``intercept`` (natural logarithm, at one cycle per image) and
        ``r2``, each (...).
    """
    return _power_law(spectrum.isel(wavenumber=slice(start, None)))


def _check_mask(field, ocean):
    found = {dim: field.sizes.get(dim) for dim in ("y", "x")}
    if found != dict(ocean.sizes):
        raise InputError(
            f"the ocean mask has sizes {dict(ocean.sizes)} and the field {dict(field.sizes)}, "
            "expected the same y and x; pass the mask of the field's grid"
        )


def _transform(rings, field, n_rings):
    def by_blocks(values):
        frames = values.reshape(-1, *values.shape[-2:])
        firsts = range(0, len(frames), FRAMES_AT_ONCE)
        done = [rings(frames[first : first + FRAMES_AT_ONCE]) for first in firsts]
        return np.concatenate(done).reshape(*values.shape[:-2], n_rings)

    return xr.apply_ufunc(
        by_blocks,
        field,
        input_core_dims=[["y", "x"]],
        output_core_dims=[["wavenumber"]],
        dask="parallelized",
        output_dtypes=["float64"],
        dask_gufunc_kwargs={
            "output_sizes": {"wavenumber": n_rings},
            "allow_rechunk": True,
        },
        keep_attrs=False,
    )


def _windowed_rings(field):
    """Variance in each ring, (frame, y, x) -> (frame, n/2): plane removed, Hann window."""
    n_cells = field.shape[-1]
    field = _finite(field)
    offset = np.arange(n_cells) - (n_cells - 1) / 2
    # On centred offsets the three terms of the plane are orthogonal: one projection each.
    scale = n_cells * (offset**2).sum()
    mean = field.mean(axis=(-2, -1))[..., None, None]
    along_x = ((field * offset).sum(axis=(-2, -1)) / scale)[..., None, None] * offset
    along_y = ((field * offset[:, None]).sum(axis=(-2, -1)) / scale)[..., None, None]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_cells) / n_cells)
    window = np.outer(hann, hann)
    windowed = (field - mean - along_x - along_y * offset[:, None]) * window
    return _ring_sums(windowed) / (n_cells**4 * (window**2).mean())


def _published_rings(field):
    total, (*_, count) = _ring_sums(_finite(field)), _rings(field.shape[-1])
    ring = np.arange(1, len(count) + 1)
    return total / count * np.pi * ((ring + 0.5) ** 2 - (ring - 0.5) ** 2)


def _finite(field):
    if not np.isfinite(field).all():
        raise InputError(
            "the field has missing values inside the area of the spectrum, where one of them "
            "would turn every wavenumber into NaN; pass a mask that leaves those cells out"
        )
    return np.asarray(field, dtype="float64")


def _ring_sums(frames):
    """Sum of |FFT|^2 within half a step of j = 1 ... n/2, (frame, y, x) -> (frame, n/2)."""
    ring, twice, count = _rings(frames.shape[-1])
    wave = fft.rfft2(frames, workers=os.cpu_count())
    power = (wave.real**2 + wave.imag**2) * twice
    return np.array([np.bincount(ring, one.ravel())[1 : len(count) + 1] for one in power])


@lru_cache(maxsize=4)
def _rings(n_cells):
    """Ring of each wavenumber of half the plane, how often it counts, and the size of each ring.

    A real field has the same power at k and -k, so half the plane is enough; what lies on the
    axis of the symmetry is there once. No wavenumber lies on the edge of a ring: (j + 1/2)^2 is
    never a sum of two squares.
    """
    along_y, along_x = fft.fftfreq(n_cells, 1 / n_cells), fft.rfftfreq(n_cells, 1 / n_cells)
    ring = np.floor(np.hypot(along_y[:, None], along_x) + 0.5).astype(int)
    twice = np.where((along_x == 0) | (2 * along_x == n_cells), 1.0, 2.0) + 0 * ring
    count = np.bincount(ring.ravel(), twice.ravel())[1 : n_cells // 2 + 1]
    return ring.ravel(), twice, count


def _power_law(spectrum):
    slope, slope_error, intercept, r2 = xr.apply_ufunc(
        _least_squares,
        spectrum,
        spectrum["wavenumber"],
        input_core_dims=[["wavenumber"], ["wavenumber"]],
        output_core_dims=[[]] * 4,
        dask="parallelized",
        output_dtypes=["float64"] * 4,
        dask_gufunc_kwargs={"allow_rechunk": True},
        keep_attrs=False,
    )
    long_names = {
        "slope": "Exponent of the power law",
        "slope_error": "Standard error of the exponent",
        "intercept": "Natural logarithm of the power at unit wavenumber",
        "r2": "Share of the variance explained by the power law",
    }
    fit = xr.Dataset({"slope": slope, "slope_error": slope_error, "intercept": intercept, "r2": r2})
    for name, long_name in long_names.items():
        fit[name].attrs = {"long_name": long_name, "units": "1"}
    fit["slope"].attrs["comment"] = CONVENTION
    return fit


def _least_squares(power, wavenumber):
    """Straight line through ln(power) against ln(wavenumber), along the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_k, log_s = np.log(wavenumber), np.log(power)
        from_mean = log_k - log_k.mean()
        slope = (from_mean * log_s).sum(axis=-1) / (from_mean**2).sum()
        intercept = log_s.mean(axis=-1) - slope * log_k.mean()
        line = intercept[..., None] + slope[..., None] * log_k
        variance = ((log_s - log_s.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
        rest = ((log_s - line) ** 2).sum(axis=-1)
        error = np.sqrt(rest / (len(log_k) - 2) / (from_mean**2).sum())
        return slope, error, intercept, 1 - rest / variance
