"""Do structures have a direction? Anisotropy of a field, by scale and by place.

Angles are those of the structures, in degrees anticlockwise from the x axis of the grid, modulo
180. Wave vectors and gradients are perpendicular to them. An index of a finite isotropic field is
not zero: print `isotropic_index` next to it.
"""

import numpy as np
import xarray as xr
from scipy import fft, ndimage, signal

from seaice_lab.diagnostics.frames import grid_sizes, pool, reduce_frames
from seaice_lab.diagnostics.spectra import largest_ocean_square, without_plane

FIRST_RING = 3  # longer waves are bent by the window
SECTORS = 12
GRADIENT_CELLS = 1.5  # Gaussian derivative: central differences turn angles towards the axes
TRUNCATE = 3.0  # standard deviations of Gaussian filters
STRONG_RATE = 0.1  # 1/day


def angular_sums(field, mask):
    """Sums of the power of a field by ring of wavenumbers and by direction, for every frame.

    The field is taken in the largest square inside the mask, without its plane and with a Hann
    window.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Take log10 of a deformation rate, not the rate.
    mask : DataArray of bool (y, x)
        Cells that count; the field is finite there.

    Returns
    -------
    Dataset
        ``power``, ``cosine`` and ``sine`` (..., ring): sums over the ring of P, P cos(2 theta) and
        P sin(2 theta), theta the direction of the wave vector, for rings 3 to a quarter of the
        side; ``sector_power`` (..., sector): mean of the power divided by that of its ring, in 12
        sectors of 15 degrees of the direction of the structures; ``count`` (...): 1.
    """
    square = largest_ocean_square(mask)
    field, mask = field.isel(square), mask.isel(square)
    size = mask.sizes["x"]
    rings = np.arange(FIRST_RING, size // 4 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    ky, kx = np.meshgrid(fft.fftfreq(size, 1 / size), fft.rfftfreq(size, 1 / size), indexing="ij")
    # A real field has the same power at k and -k, and both have the same angle modulo 180.
    multiplicity = np.where((kx == 0) | (2 * kx == size), 1.0, 2.0)
    ring = np.floor(np.hypot(ky, kx) + 0.5).astype(int) - FIRST_RING
    used = (ring >= 0) & (ring < len(rings))
    ring, theta, weight = ring[used], np.arctan2(ky[used], kx[used]), multiplicity[used]
    sector = ((theta + np.pi / 2) % np.pi / np.pi * SECTORS).astype(int) % SECTORS
    # One matrix for all sums over rings, one for the means over sectors.
    is_ring = ring[:, None] == np.arange(len(rings))
    cos_ring, sin_ring = (is_ring * turn(2 * theta)[:, None] for turn in (np.cos, np.sin))
    is_sector = weight[:, None] * (sector[:, None] == np.arange(SECTORS))
    is_sector /= np.maximum(is_sector.sum(axis=0), 1)

    def of_frames(values, _valid):
        waves = fft.rfft2(without_plane(values[0]) * np.outer(hann, hann))[:, used]
        power = waves.real**2 + waves.imag**2
        total, cosine, sine = (power * weight @ rows for rows in (is_ring, cos_ring, sin_ring))
        mean = (total / (weight @ is_ring))[:, ring]
        relative = np.divide(power, mean, out=np.ones_like(power), where=mean > 0)
        return total, cosine, sine, relative @ is_sector, np.ones(len(power))

    sizes = {"ring": len(rings)}
    outputs = {"power": sizes, "cosine": sizes, "sine": sizes, "sector_power": {"sector": SECTORS}}
    sums = reduce_frames(of_frames, [field], mask, outputs | {"count": {}})
    angles = (np.arange(SECTORS) + 0.5) * 180 / SECTORS
    coords = {"ring": rings, "sector": ("sector", angles, {"units": "degree"})}
    return sums.assign_coords(coords).assign_attrs(side_cells=size)


def angular_index(sums, over=None):
    """Index of anisotropy and orientation of the structures.

    Parameters
    ----------
    sums : Dataset
        From `angular_sums`.
    over : sequence of str, optional
        Dimensions that are pooled, for a persistent direction; by default all but ring and sector.
        An empty one asks how anisotropic each frame is.

    Returns
    -------
    Dataset
        ``index`` (...) in [0, 1]: with z the sum of P e^(2 i theta) over the sum of P in a ring,
        the modulus of the mean of z over the rings; ``orientation`` (...), degrees;
        ``index_by_scale`` (..., ring), the modulus of z; ``sector_power`` (..., sector) and
        ``power_ratio`` (...), its largest value over its smallest.
    """
    pooled = pool(sums, over)
    z = (pooled.cosine + 1j * pooled.sine) / pooled.power.where(pooled.power > 0)
    mean = z.mean("ring", skipna=False)
    # Half the argument of z is the direction of the wave vectors.
    orientation = (np.degrees(np.arctan2(mean.imag, mean.real)) / 2 + 90) % 180
    sectors = pooled.sector_power / pooled["count"]
    result = {"index": abs(mean), "orientation": orientation.assign_attrs(units="degree")}
    result |= {"index_by_scale": abs(z), "sector_power": sectors}
    result["power_ratio"] = sectors.max("sector") / sectors.min("sector")
    return xr.Dataset(result, attrs=sums.attrs)


def isotropic_index(size, frames=1, draws=100, seed=0):
    """Indices of isotropic noise on a square: the null of `angular_index`.

    Parameters
    ----------
    size : int
        Side of the square in cells.
    frames : int
        Frames that are pooled.
    draws, seed : int

    Returns
    -------
    DataArray (draw)
    """
    noise = np.random.default_rng(seed).standard_normal((draws, frames, size, size))
    noise = xr.DataArray(noise, dims=("draw", "frame", "y", "x"))
    everywhere = xr.DataArray(np.ones((size, size), bool), dims=("y", "x"))
    return angular_index(angular_sums(noise, everywhere), ["frame"]).index


def structure_tensor(field, mask, sigma_cells=None):
    """Local orientation and coherence from the smoothed outer product of the gradient.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Finite inside the mask. Take log10 of a deformation rate, not the rate.
    mask : DataArray of bool (..., y, x)
        Cells that count.
    sigma_cells : float, optional
        Standard deviation of the smoothing, 4 to 8 cells for maps. By default one tensor is summed
        over all cells.

    Returns
    -------
    Dataset
        ``coherence`` (l1 - l2) / (l1 + l2) of the eigenvalues, in [0, 1], and ``orientation``,
        degrees; (..., y, x), NaN near land and the edge of the grid, or (...).
    """
    reach = int(TRUNCATE * GRADIENT_CELLS + 0.5)

    def of_frames(values, valid):
        # Cells whose filters reach no masked cell.
        inner = ndimage.binary_erosion(valid, np.ones((1, 2 * reach + 1, 2 * reach + 1)))
        sigma = (0, GRADIENT_CELLS, GRADIENT_CELLS)
        d_dy, d_dx = (
            ndimage.gaussian_filter(values[0], sigma, order, truncate=TRUNCATE)
            for order in ((0, 1, 0), (0, 0, 1))
        )
        # Twice the direction of the gradient is the argument of its square as a complex number.
        gradient = np.where(inner, d_dx + 1j * d_dy, 0.0)
        tensor = gradient**2, abs(gradient) ** 2
        if sigma_cells is None:
            square, power = (e.sum(axis=(-2, -1)) for e in tensor)
        else:
            smoothing = (0, sigma_cells, sigma_cells)
            square, power = (ndimage.gaussian_filter(e, smoothing, mode="constant") for e in tensor)
        with np.errstate(invalid="ignore"):
            coherence = abs(square) / power
        # The large eigenvalue belongs to the gradient, the small one to the structure.
        orientation = (np.degrees(np.angle(square)) / 2 + 90) % 180
        counted = inner if sigma_cells is not None else inner.any(axis=(-2, -1))
        return tuple(np.where(counted, array, np.nan) for array in (coherence, orientation))

    sizes = grid_sizes(field) if sigma_cells else {}
    outputs = dict.fromkeys(("coherence", "orientation"), sizes)
    tensor = reduce_frames(of_frames, [field], mask, outputs)
    tensor.orientation.attrs["units"] = "degree"
    return tensor


def neighbourhood_anisotropy(rate, radius_cells=5):
    """Anisotropy of the strongly deforming cells around each of them.

    Parameters
    ----------
    rate : DataArray (..., y, x), 1/day
        Total deformation rate, NaN where masked.
    radius_cells : int
        Cells within this distance count.

    Returns
    -------
    DataArray (..., y, x)
        1 - (small / large eigenvalue)^2 of the inertia tensor of the positions of cells above
        0.1 1/day, weighted by their rate, about their centre; NaN where the rate is lower or fewer
        than three cells count. 1 for a straight line (after Korosov et al. 2025,
        doi:10.5194/gmd-18-885-2025).
    """
    offset = np.arange(-radius_cells, radius_cells + 1.0)
    y, x = np.meshgrid(offset, offset, indexing="ij")
    offset = x + 1j * y
    disc = abs(offset) <= radius_cells

    def correlate(field, kernel):
        kernel = (disc * kernel)[None, ::-1, ::-1]
        return signal.oaconvolve(field, kernel, "same", axes=(1, 2))

    def of_frames(values, valid):
        strong = valid & (values[0] > STRONG_RATE)
        enough = strong & (correlate(strong * 1.0, 1.0).round() >= 3)
        weight = np.where(strong, values[0], 0.0)
        kernels = 1.0, offset, offset**2, abs(offset) ** 2
        total, first, square, power = (correlate(weight, kernel) for kernel in kernels)
        with np.errstate(all="ignore"):  # where too few cells count
            # Sum and difference of the eigenvalues, about the centre.
            trace, gap = power - abs(first) ** 2 / total, abs(square - first**2 / total)
            anisotropy = 1 - (np.maximum(trace - gap, 0) / (trace + gap)) ** 2
        return (np.where(enough, anisotropy, np.nan),)

    return reduce_frames(of_frames, [rate], None, {"anisotropy": grid_sizes(rate)}).anisotropy
