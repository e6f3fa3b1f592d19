"""How much does a forecast smooth? The power spectral density of a field and its exponent.

A network trained on squared errors damps what it cannot predict, the short waves first, and every
step of a rollout damps them again. Its spectrum becomes steeper with lead time; that of the truth
does not. The exponent p of S(k) ~ k^p, fitted over a range of wavelengths, measures this in one
number for each field.

Land is the difficulty: a coastline with zeros behind it is a sharp edge, and the spectrum of the
edge hides that of the ice. So a spectrum is taken over the largest square of the grid that is all
ocean (`power_spectrum`, `spectral_exponent`). The convention of Durand et al. (2024),
doi:10.5194/tc-18-1791-2024, keeps the whole image with land as zero (`published_spectrum`,
`published_exponent`). Compare its numbers only with each other, and only under the same mask.

Both conventions sum the power over directions. White noise then has the exponent +1, and
S(k) ~ k^p corresponds to a two-dimensional density ~ k^(p-1).
"""

from bisect import bisect_left
from functools import lru_cache

import numpy as np
import xarray as xr
from scipy import fft

from seaice_lab.diagnostics.frames import reduce_frames
from seaice_lab.errors import InputError

PUBLISHED_START = 5  # list position of the first wavenumber of the published fit, so j >= 6
SHORTEST_FITTED = 2  # in units of the shortest wavelength of the spectrum (2 cells): 4 cells
LONGEST_FITTED = 1 / 3  # of the longest wavelength of the spectrum, the side of the square
FEWEST_FITTED = 4  # wavenumbers; a slope through fewer is mostly chance
FIT_NAMES = {
    "slope": "Exponent of the power law",
    "slope_error": "Standard error of the exponent",
    "intercept": "Natural logarithm of the power at unit wavenumber",
    "r2": "Share of the variance explained by the power law",
}


def largest_ocean_square(ocean):
    """Find the largest square of ocean cells, the first in row order among equals.

    Spectra of sea ice mean little over open water. To keep the square inside the pack, pass
    ``ocean & region``, for example where the mean concentration exceeds 0.8.

    Parameters
    ----------
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    dict
        Slices of y and x, for ``field.isel(square)``.

    Raises
    ------
    InputError
        If no cell is True.
    """
    mask = ocean.transpose("y", "x").values.astype(bool)
    # The sum over a rectangle is a difference of running totals at its four corners.
    total = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def all_ocean_corners(side):
        below = total[side:, side:] - total[:-side, side:]
        above = total[side:, :-side] - total[:-side, :-side]
        return np.argwhere(below - above == side**2)

    # A square contains all smaller ones: bisect for the first side that is too large.
    sides = range(min(mask.shape) + 1)
    side = bisect_left(sides, True, lo=1, key=lambda n: not len(all_ocean_corners(n))) - 1
    if not side:
        raise InputError(
            "the mask has no ocean cell, expected True where sea; make it with e.g. mask == 1"
        )
    row, column = all_ocean_corners(side)[0].tolist()
    return {"y": slice(row, row + side), "x": slice(column, column + side)}


def power_spectrum(field, ocean, dx_m):
    """Power spectral density over the largest all-ocean square, summed over directions.

    The best-fitting plane is removed and a Hann window is applied. The sum of the density times
    the wavenumber step is the variance of the windowed field, corrected for the energy that the
    window takes away. Diagonal waves shorter than two cells are left out, because they belong to
    no complete ring of wavenumbers.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Values, finite everywhere in the square. Lazy arrays stay lazy.
    ocean : DataArray of bool (y, x)
        True where sea, or in a part of the sea: see `largest_ocean_square`. Use the same mask for
        spectra that are to be compared.
    dx_m : float
        Distance between cells, m, taken as equal in both directions over the square.

    Returns
    -------
    DataArray (..., wavenumber), float64
        Density in field units squared times km, against ``wavenumber`` in cycles per km. The
        coordinate ``wavelength`` is its inverse in km, from the side of the square to two cells.

    Raises
    ------
    InputError
        If the mask has another grid than the field, or a value inside the square is missing (of a
        lazy field, when it is computed).

    Notes
    -----
    With w the window, n cells a side, F the discrete Fourier transform of w times the field
    without its plane, and dk = 1 / (n dx): S(j dk) dk = sum of |F|^2 / (n^4 <w^2>) over the
    wavenumbers within half a step of j.
    """
    # 1. The square without land.
    _check_mask(field, ocean)
    square = field.isel(largest_ocean_square(ocean))
    n_cells = square.sizes["x"]
    all_ocean = xr.DataArray(np.ones((n_cells, n_cells), bool), dims=("y", "x"))

    # 2. Window. Periodic ("DFT-even") Hann, not the symmetric one: its transform has exactly three
    #    terms, so a wave leaks into its two neighbours only.
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_cells) / n_cells)
    window = np.outer(hann, hann)

    def variance_in_rings(frames):
        # 3. The plane is not a wave, but its jump from one edge to the opposite one would look
        #    like waves of all lengths.
        waves = without_plane(frames) * window
        # 4. Parseval: the sum of |F|^2 over all wavenumbers is n^4 times the mean square of the
        #    waves. Dividing by <w^2> makes good what the window takes away.
        return _ring_sums(waves) / (n_cells**4 * (window**2).mean())

    # 5. Density: variance in a ring over the step from one ring to the next, in cycles per km.
    step = 1000 / (n_cells * dx_m)
    ring = np.arange(1, n_cells // 2 + 1)
    density = _in_rings(variance_in_rings, square, all_ocean, len(ring)) / step

    # 6. Labels.
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
    """Fit the exponent p of S(k) ~ k^p: least squares of ln S on ln k over some wavelengths.

    Parameters
    ----------
    spectrum : DataArray (..., wavenumber)
        From `power_spectrum`, or a mean of such spectra.
    wavelength_km : (float, float), optional
        Shortest and longest wavelength of the fit. By default from 4 cells, because a model hardly
        resolves shorter waves, to a third of the side of the square, because window and plane
        change the spectrum of longer waves. (The exponents -1 to -3 of synthetic fields on 64
        cells are then recovered within 0.1.)

    Returns
    -------
    Dataset
        ``slope`` (the exponent), ``slope_error`` (its standard error), ``intercept`` (ln S at
        1 cycle per km) and ``r2`` (share of the variance of ln S explained), each (...). NaN if
        the field has no power, for example in an ice-free square. The attribute ``wavelength_km``
        is the range of the fit.

    Raises
    ------
    InputError
        If the range holds fewer than 4 wavenumbers.
    """
    wavelength = spectrum["wavelength"]
    lowest, highest = float(wavelength.min()), float(wavelength.max())
    default = (SHORTEST_FITTED * lowest, LONGEST_FITTED * highest)
    shortest, longest = sorted(wavelength_km or default)
    # The tolerance keeps a wavelength that equals a limit in spite of rounding.
    in_range = (wavelength >= shortest * (1 - 1e-9)) & (wavelength <= longest * (1 + 1e-9))
    count = int(in_range.sum())
    if count < FEWEST_FITTED:
        raise InputError(
            f"wavelengths of {shortest:.0f} to {longest:.0f} km hold {count} wavenumbers of the "
            f"spectrum, expected at least {FEWEST_FITTED}; widen the range within {lowest:.0f} to "
            f"{highest:.0f} km or take a larger ocean square"
        )
    fit = _power_law(spectrum.isel(wavenumber=in_range.values))
    return fit.assign_attrs(wavelength_km=[shortest, longest])


def published_spectrum(field, ocean):
    """Spectrum by the published rule: whole image, land as zero, no window, mean not removed.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Square image, finite on ocean cells. Lazy arrays stay lazy.
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    DataArray (..., wavenumber), float64
        Mean of the unnormalised |FFT|^2 over the ring [j - 1/2, j + 1/2), times the area of the
        ring, against ``wavenumber`` j = 1 ... n/2 in cycles per image.

    Raises
    ------
    InputError
        If the image is not square, the mask has another grid or an ocean cell is missing.

    Notes
    -----
    Durand et al. (2024), doi:10.5194/tc-18-1791-2024.
    """
    _check_mask(field, ocean)
    if field.sizes["y"] != field.sizes["x"]:
        raise InputError(
            f"the image has {field.sizes['y']} x {field.sizes['x']} cells, expected a square one; "
            "crop the field, or use power_spectrum, which looks for a square itself"
        )
    ring = np.arange(1, field.sizes["x"] // 2 + 1)
    *_, count = _rings(field.sizes["x"])

    def power_in_rings(frames):
        area = np.pi * ((ring + 0.5) ** 2 - (ring - 0.5) ** 2)
        return _ring_sums(frames) / count * area

    power = _in_rings(power_in_rings, field, ocean, len(ring))
    power["wavenumber"] = ring.astype(float)
    power["wavenumber"].attrs = {"long_name": "Wavenumber", "units": "1"}
    long_name = "Power in a ring, published convention"
    return power.assign_attrs(long_name=long_name, comment="cycles per image; land as zero")


def published_exponent(spectrum, start=PUBLISHED_START):
    """Exponent by the published rule: least squares over all wavenumbers from `start` to the end.

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
    sizes = {dim: field.sizes.get(dim) for dim in ("y", "x")}
    if sizes != dict(ocean.sizes):
        raise InputError(
            f"the ocean mask has sizes {dict(ocean.sizes)} and the field {dict(field.sizes)}, "
            "expected the same y and x; pass the mask of the field's grid"
        )


def _in_rings(function, field, ocean, n_rings):
    """Apply a function (frame, y, x) -> (frame, ring) to all frames, which are zero on land."""

    def of_frames(values, _valid):
        return (function(values[0]),)

    outputs = {"power": {"wavenumber": n_rings}}
    return reduce_frames(of_frames, [field], ocean, outputs).power


def without_plane(frames):
    """Frames (frame, n, n) minus their best-fitting planes a + b x + c y."""
    n_cells = frames.shape[-1]
    offset = np.arange(n_cells) - (n_cells - 1) / 2
    # On centred offsets the three terms of the plane are orthogonal, so least squares is one
    # projection for each: <f>, <f x> / <x^2> and <f y> / <y^2>, from the means over y and over x.
    over_y, over_x = frames.mean(axis=-2), frames.mean(axis=-1)
    weights = offset / (offset**2).sum()
    along_x = (over_y @ weights)[..., None] * offset
    along_y = over_x.mean(axis=-1)[..., None] + (over_x @ weights)[..., None] * offset
    return frames - (along_y[..., None] + along_x[..., None, :])


def _ring_sums(frames):
    """Sum of |FFT|^2 over the wavenumbers in each ring, (frame, n, n) -> (frame, n/2)."""
    ring, multiplicity, count = _rings(frames.shape[-1])
    transform = fft.rfft2(frames)
    power = (transform.real**2 + transform.imag**2) * multiplicity
    # Ring 0 is the mean of the field; the corners of the plane lie beyond the last full ring.
    return np.array([np.bincount(ring, frame.ravel())[1 : len(count) + 1] for frame in power])


@lru_cache(maxsize=4)
def _rings(n_cells):
    """Rings of wavenumbers of an n x n image in the half plane of a real transform.

    Ring j holds the wavenumbers whose length rounds to j. None lies on the edge of a ring, because
    (j + 1/2)^2 is never a sum of two squares of integers.

    Returns
    -------
    ring : ndarray of int (n * (n // 2 + 1),)
        Ring of each wavenumber.
    multiplicity : ndarray (n // 2 + 1,)
        How often a wavenumber counts, by kx. A real field has the same power at k and -k, and the
        half plane holds only one of them: so 2, but 1 where k and -k are both in the half plane.
    count : ndarray (n // 2,)
        Number of wavenumbers of the full plane in each ring from 1 on.
    """
    ky, kx = fft.fftfreq(n_cells, 1 / n_cells), fft.rfftfreq(n_cells, 1 / n_cells)
    ring = np.floor(np.hypot(ky[:, None], kx) + 0.5).astype(int)
    multiplicity = np.where((kx == 0) | (2 * kx == n_cells), 1.0, 2.0)
    weights = np.broadcast_to(multiplicity, ring.shape)
    count = np.bincount(ring.ravel(), weights.ravel())[1 : n_cells // 2 + 1]
    return ring.ravel(), multiplicity, count


def _power_law(spectrum):
    """Fit of `_least_squares` along the wavenumbers, with labels."""
    statistics = xr.apply_ufunc(
        _least_squares,
        spectrum,
        spectrum["wavenumber"],
        input_core_dims=[["wavenumber"], ["wavenumber"]],
        output_core_dims=[[]] * len(FIT_NAMES),
        dask="parallelized",
        output_dtypes=["float64"] * len(FIT_NAMES),
        dask_gufunc_kwargs={"allow_rechunk": True},
        keep_attrs=False,
    )
    fit = xr.Dataset(dict(zip(FIT_NAMES, statistics, strict=True)))
    for name, long_name in FIT_NAMES.items():
        fit[name].attrs = {"long_name": long_name, "units": "1"}
    fit["slope"].attrs["comment"] = (
        "of the power summed over directions; that of the density in 2-D is one less"
    )
    return fit


def _least_squares(power, wavenumber):
    """Straight line ln S = intercept + slope ln k, along the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):  # no power: the logarithm is -inf
        log_k, log_s = np.log(wavenumber), np.log(power)
        from_mean = log_k - log_k.mean()
        slope = (from_mean * log_s).sum(axis=-1) / (from_mean**2).sum()
        intercept = log_s.mean(axis=-1) - slope * log_k.mean()
        line = intercept[..., None] + slope[..., None] * log_k
        total = ((log_s - log_s.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
        residual = ((log_s - line) ** 2).sum(axis=-1)
        # Two parameters are fitted, hence the degrees of freedom.
        slope_error = np.sqrt(residual / (len(log_k) - 2) / (from_mean**2).sum())
        return slope, slope_error, intercept, 1 - residual / total
